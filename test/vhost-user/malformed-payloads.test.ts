import test from 'ava';

import {
  frontendMessages,
  backendMessages,
  type MessageDescriptor,
} from '../../src/vhost-user/index.js';
import { bytesOf } from './vectors.js';

const messages: Readonly<Record<string, MessageDescriptor>> = {
  ...frontendMessages,
  BACKEND_SHMEM_MAP: backendMessages.SHMEM_MAP,
  BACKEND_VRING_HOST_NOTIFIER_MSG: backendMessages.VRING_HOST_NOTIFIER_MSG,
};

const page = '0010000000000000';
const all = 'ffffffffffffffff';
const zero = '0000000000000000';
const table = (regions: string, count = '01000000') => `${count} 00000000 ${regions}`;

/** Payloads of a legal size whose content is not: message, what is wrong, bytes, code. */
const cases: readonly (readonly [string, string, string, string])[] = [
  ['SET_MEM_TABLE', 'no regions', table('', '00000000'), 'BAD_PAYLOAD'],
  [
    'SET_MEM_TABLE',
    'nine regions',
    table(`${zero} ${page} ${zero} ${zero}`.repeat(9), '09000000'),
    'BAD_PAYLOAD',
  ],
  [
    'SET_MEM_TABLE',
    'a count of 2^32-1',
    table(`${zero} ${page} ${zero} ${zero}`, 'ffffffff'),
    'BAD_PAYLOAD',
  ],
  [
    'SET_MEM_TABLE',
    'fewer regions than counted',
    table(`${zero} ${page} ${zero} ${zero}`, '02000000'),
    'BAD_PAYLOAD_SIZE',
  ],
  [
    'SET_MEM_TABLE',
    'more regions than counted',
    table(`${zero} ${page} ${zero} ${zero}`.repeat(2)),
    'BAD_PAYLOAD_SIZE',
  ],
  ['SET_MEM_TABLE', 'half a header', '01000000', 'BAD_PAYLOAD_SIZE'],
  ['SET_MEM_TABLE', 'a region of size 0', table(`${zero} ${zero} ${zero} ${zero}`), 'BAD_PAYLOAD'],
  [
    'SET_MEM_TABLE',
    'a guest address that overflows',
    table(`${all} ${page} ${zero} ${zero}`),
    'BAD_PAYLOAD',
  ],
  [
    'SET_MEM_TABLE',
    'a user address that overflows',
    table(`${zero} ${page} ${all} ${zero}`),
    'BAD_PAYLOAD',
  ],
  [
    'SET_MEM_TABLE',
    'an mmap offset that overflows',
    table(`${zero} ${page} ${zero} ${all}`),
    'BAD_PAYLOAD',
  ],
  ['ADD_MEM_REG', 'a region of size 0', `${zero} ${zero} ${zero} ${zero} ${zero}`, 'BAD_PAYLOAD'],
  ['ADD_MEM_REG', 'an overflowing size', `${zero} ${page} ${all} ${page} ${zero}`, 'BAD_PAYLOAD'],
  ['REM_MEM_REG', 'an overflowing size', `${zero} ${page} ${all} ${zero} ${zero}`, 'BAD_PAYLOAD'],
  [
    'SET_VRING_ADDR',
    'a reserved flag',
    `00000000 02000000 ${zero} ${zero} ${zero} ${zero}`,
    'BAD_PAYLOAD',
  ],
  [
    'SET_VRING_ADDR',
    'flag bit 31',
    `00000000 00000080 ${zero} ${zero} ${zero} ${zero}`,
    'BAD_PAYLOAD',
  ],
  ['SET_VRING_ENABLE', 'a truth value of 2', '00000000 02000000', 'BAD_PAYLOAD'],
  ['SET_VRING_ENDIAN', 'an order of 2', '00000000 02000000', 'BAD_PAYLOAD'],
  ['SET_VRING_KICK', 'bit 9', '0002000000000000', 'BAD_PAYLOAD'],
  ['SET_VRING_CALL', 'bit 63', '0000000000000080', 'BAD_PAYLOAD'],
  ['SET_VRING_ERR', 'bit 32', '0000000001000000', 'BAD_PAYLOAD'],
  ['NET_SET_MTU', 'an MTU above 16 bits', '0000010000000000', 'BAD_PAYLOAD'],
  ['SET_STATUS', 'a status above 8 bits', '0001000000000000', 'BAD_PAYLOAD'],
  [
    'GET_CONFIG',
    'a size field below the payload',
    '00000000 01000000 00000000 0000',
    'BAD_PAYLOAD_SIZE',
  ],
  [
    'GET_CONFIG',
    'a size field above the payload',
    '00000000 ffffffff 00000000 0000',
    'BAD_PAYLOAD_SIZE',
  ],
  ['GET_CONFIG', 'an offset of 2^32-1', 'ffffffff 02000000 00000000 0000', 'BAD_PAYLOAD'],
  ['GET_CONFIG', 'half a header', '000000000000', 'BAD_PAYLOAD_SIZE'],
  ['SET_CONFIG', '257 bytes', `00000000 01010000 00000000 ${'00'.repeat(257)}`, 'BAD_PAYLOAD_SIZE'],
  ['SET_CONFIG', 'reserved flags', '00000000 02000000 02000000 0000', 'BAD_PAYLOAD'],
  ['IOTLB_MSG', 'type 0', `${zero} ${page} ${zero} 0300 000000000000`, 'BAD_PAYLOAD'],
  ['IOTLB_MSG', 'type 5', `${zero} ${page} ${zero} 0305 000000000000`, 'BAD_PAYLOAD'],
  ['IOTLB_MSG', 'permissions 4', `${zero} ${page} ${zero} 0402 000000000000`, 'BAD_PAYLOAD'],
  ['SET_DEVICE_STATE_FD', 'direction 2', '02000000 00000000', 'BAD_PAYLOAD'],
  ['SET_DEVICE_STATE_FD', 'phase 1', '00000000 01000000', 'BAD_PAYLOAD'],
  [
    'BACKEND_SHMEM_MAP',
    'an overflowing offset',
    `0000000000000000 ${all} ${zero} ${page} ${zero}`,
    'BAD_PAYLOAD',
  ],
  [
    'BACKEND_SHMEM_MAP',
    'a reserved flag',
    `0000000000000000 ${zero} ${zero} ${page} 0200000000000000`,
    'BAD_PAYLOAD',
  ],
  ['BACKEND_VRING_HOST_NOTIFIER_MSG', 'bit 9', `0002000000000000 ${page} ${zero}`, 'BAD_PAYLOAD'],
  ['CREATE_CRYPTO_SESSION', '2049 bytes', '00'.repeat(2049), 'BAD_PAYLOAD_SIZE'],
];

for (const [name, what, hex, code] of cases) {
  test(`${name} with ${what} is ${code}`, (t) => {
    const codec = messages[name]?.request;
    t.throws(() => codec?.decode(bytesOf(hex), 'LE'), { code, name: 'VvuError' });
  });
}

test('a shared memory configuration has as many entries as regions, at least', (t) => {
  const codec = frontendMessages.GET_SHMEM_CONFIG.replyPayload;
  t.throws(() => codec.decode(bytesOf('02000000 00000000 0000000000000000'), 'LE'), {
    code: 'BAD_PAYLOAD',
  });
  t.throws(() => codec.decode(Buffer.alloc(8 + 8 * 257), 'LE'), { code: 'BAD_PAYLOAD_SIZE' });
  t.throws(() => codec.decode(Buffer.alloc(12), 'LE'), { code: 'BAD_PAYLOAD_SIZE' });
});

test('regions may end at the last address', (t) => {
  const last = '00f0ffffffffffff';
  const bytes = bytesOf(table(`${last} ${page} ${last} ${last}`));
  t.is(frontendMessages.SET_MEM_TABLE.request.decode(bytes, 'LE')[0]?.size, 0x1000n);
});
