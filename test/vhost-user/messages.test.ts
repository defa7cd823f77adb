import test from 'ava';

import {
  backendMessage,
  backendMessages,
  frontendMessage,
  frontendMessages,
  type MessageDescriptor,
  type PayloadCodec,
} from '../../src/vhost-user/index.js';
import {
  backendRequests,
  bytesOf,
  frontendReplies,
  frontendRequests,
  type Vector,
} from './vectors.js';

const frontend: Readonly<Record<string, MessageDescriptor>> = frontendMessages;
const backend: Readonly<Record<string, MessageDescriptor>> = backendMessages;

/** Numbers as the specification lists them, independent of the constants. */
const frontendOrder = [
  'GET_FEATURES SET_FEATURES SET_OWNER RESET_OWNER SET_MEM_TABLE SET_LOG_BASE SET_LOG_FD',
  'SET_VRING_NUM SET_VRING_ADDR SET_VRING_BASE GET_VRING_BASE SET_VRING_KICK SET_VRING_CALL',
  'SET_VRING_ERR GET_PROTOCOL_FEATURES SET_PROTOCOL_FEATURES GET_QUEUE_NUM SET_VRING_ENABLE',
  'SEND_RARP NET_SET_MTU SET_BACKEND_REQ_FD IOTLB_MSG SET_VRING_ENDIAN GET_CONFIG SET_CONFIG',
  'CREATE_CRYPTO_SESSION CLOSE_CRYPTO_SESSION POSTCOPY_ADVISE POSTCOPY_LISTEN POSTCOPY_END',
  'GET_INFLIGHT_FD SET_INFLIGHT_FD GPU_SET_SOCKET RESET_DEVICE VRING_KICK GET_MAX_MEM_SLOTS',
  'ADD_MEM_REG REM_MEM_REG SET_STATUS GET_STATUS GET_SHARED_OBJECT SET_DEVICE_STATE_FD',
  'CHECK_DEVICE_STATE GET_SHMEM_CONFIG',
].flatMap((line) => line.split(' '));
const backendOrder = [
  'IOTLB_MSG CONFIG_CHANGE_MSG VRING_HOST_NOTIFIER_MSG VRING_CALL VRING_ERR SHARED_OBJECT_ADD',
  'SHARED_OBJECT_REMOVE SHARED_OBJECT_LOOKUP SHMEM_MAP SHMEM_UNMAP',
].flatMap((line) => line.split(' '));

test('the tables hold requests 1-44 and 1-10 under the numbers of the specification', (t) => {
  t.is(frontendOrder.length, 44);
  t.is(backendOrder.length, 10);
  t.deepEqual(Object.keys(frontend), frontendOrder);
  t.deepEqual(Object.keys(backend), backendOrder);
  frontendOrder.forEach((name, index) => {
    t.is(frontendMessage(index + 1), frontend[name]);
    t.is(frontend[name]?.name, name);
  });
  backendOrder.forEach((name, index) => {
    t.is(backendMessage(index + 1), backend[name]);
    t.is(backend[name]?.name, `BACKEND_${name}`);
  });
  for (const unknown of [0, 45, 0xffff_ffff]) {
    t.is(frontendMessage(unknown), undefined);
  }
  t.is(backendMessage(11), undefined);
});

test('messages with fds are those that the specification lists', (t) => {
  const withFds = Object.entries(frontend).filter(([, { fds }]) => fds.max > 0);
  t.deepEqual(
    withFds.map(([name, { fds }]) => [name, fds.min, fds.max]),
    [
      ['SET_MEM_TABLE', 1, 8],
      ['SET_LOG_BASE', 1, 1],
      ['SET_LOG_FD', 1, 1],
      ['SET_VRING_KICK', 0, 1],
      ['SET_VRING_CALL', 0, 1],
      ['SET_VRING_ERR', 0, 1],
      ['SET_BACKEND_REQ_FD', 1, 1],
      ['SET_INFLIGHT_FD', 1, 1],
      ['GPU_SET_SOCKET', 1, 1],
      ['ADD_MEM_REG', 1, 1],
      ['REM_MEM_REG', 0, 1],
      ['SET_DEVICE_STATE_FD', 1, 1],
    ],
  );
});

test('messages with a reply of their own are those that have a reply vector', (t) => {
  const replying = Object.entries(frontend).filter(([, { reply }]) => reply !== 'none');
  t.deepEqual(
    replying.map(([name]) => name),
    Object.keys(frontendReplies),
  );
});

function checkVector(codec: PayloadCodec<unknown>, { le, be, value, text }: Vector) {
  return {
    decoded: [codec.decode(bytesOf(le), 'LE'), codec.decode(bytesOf(be), 'BE')],
    encoded: [codec.encode(value, 'LE').toString('hex'), codec.encode(value, 'BE').toString('hex')],
    expected: { decoded: [value, value], encoded: [le, be].map((hex) => hex.replaceAll(' ', '')) },
    sizes: bytesOf(le).length >= codec.minSize && bytesOf(le).length <= codec.maxSize,
    text: codec.describe(value) === text,
  };
}

const tables = [
  ['front-end request', frontend, frontendRequests, 'request'],
  ['front-end reply', frontend, frontendReplies, 'replyPayload'],
  ['back-end request', backend, backendRequests, 'request'],
] as const;

for (const [what, descriptors, vectors, side] of tables) {
  for (const [name, descriptor] of Object.entries(descriptors)) {
    const list = vectors[name];
    if (list === undefined && side === 'replyPayload') {
      continue;
    }
    test(`${what} ${name} decodes and encodes in both byte orders`, (t) => {
      t.truthy(list?.length, 'no vector');
      for (const vector of list ?? []) {
        const result = checkVector(descriptor[side], vector);
        t.deepEqual(result.decoded, result.expected.decoded);
        t.deepEqual(result.encoded, result.expected.encoded);
        t.true(result.sizes);
        t.true(result.text, descriptor[side].describe(vector.value));
      }
    });
  }
}

test('every payload refuses the sizes one below and one above its vectors', (t) => {
  for (const [what, descriptors, vectors, side] of tables) {
    for (const [name, list] of Object.entries(vectors)) {
      const lengths = list.map(({ le }) => bytesOf(le).length);
      const around = lengths.flatMap((length) => [length - 1, length + 1]);
      // A crypto session may have any size within its limits.
      for (const size of name.includes('CREATE_CRYPTO') ? [0, 7, 2049] : around) {
        const bytes = Buffer.alloc(Math.max(size, 0));
        if (size >= 0) {
          bytesOf(list[0]?.le ?? '').copy(bytes);
          const decode = () => descriptors[name]?.[side].decode(bytes, 'LE');
          t.throws(decode, { code: 'BAD_PAYLOAD_SIZE' }, `${what} ${name} ${size}`);
        }
      }
    }
  }
});

test('a padded and a packed inflight description mean the same', (t) => {
  const packed = bytesOf('0050000000000000 0010000000000000 0200 0001');
  t.deepEqual(
    frontendMessages.GET_INFLIGHT_FD.request.decode(packed, 'LE'),
    frontendRequests['GET_INFLIGHT_FD']?.[0]?.value as never,
  );
});

test('the mmap offset of REM_MEM_REG is ignored', (t) => {
  const hex =
    '0000000000000000 0000000001000000 0000000800000000 0000607fff7f0000 ffffffffffffffff';
  t.notThrows(() => frontendMessages.REM_MEM_REG.request.decode(bytesOf(hex), 'LE'));
  t.throws(() => frontendMessages.ADD_MEM_REG.request.decode(bytesOf(hex), 'LE'), {
    code: 'BAD_PAYLOAD',
  });
});
