import test from 'ava';

import { BACKEND_POLICY, FRONTEND_POLICY } from '../../src/tunnel/index.js';
import {
  backendMessages,
  frontendMessages,
  type MessageDescriptor,
} from '../../src/vhost-user/index.js';
import {
  backendRequests,
  frontendReplies,
  frontendRequests,
  type Vector,
} from '../vhost-user/vectors.js';
import * as rig from './rig.js';
import { Rig, settle, u64 } from './rig.js';

/**
 * A big-endian machine: native order on its socket, little-endian towards the guest. Every message
 * is written down in both orders.
 */
const be = (hex: string): string => hex.replaceAll(' ', '');

function bigEndian(): Rig {
  const r = new Rig({ order: 'BE' });
  r.frontend(be('00000001 00000001 00000000'));
  r.guest(be('01000000 05000000 08000000 ffffff7fff000000'));
  r.frontend(be('0000000f 00000001 00000000'));
  r.guest(be('0f000000 05000000 08000000 ffff7f0000000000'));
  return r;
}

test('negotiation is swapped both ways, and opaque crypto sessions are masked', (t) => {
  const r = bigEndian();
  t.deepEqual(r.traffic(), {
    guest: [be('01000000 01000000 00000000'), be('0f000000 01000000 00000000')],
    frontend: [
      be('00000001 00000005 00000008 000000ff7fffffff'),
      // 0x11f2ff without bit 7.
      be('0000000f 00000005 00000008 000000000011f27f'),
    ],
  });
  r.frontend(be('00000010 00000001 00000008 0000000000010008'));
  t.deepEqual(r.traffic().guest, [be('10000000 01000000 08000000 0800010000000000')]);
  // CREATE_CRYPTO_SESSION.
  r.frontend(be('0000001a 00000001 00000008 0000000000000000'));
  t.is(r.closedWith, 'NOT_NEGOTIATED');
});

test('rings, memory and replies are swapped', async (t) => {
  const r = bigEndian();
  r.frontend(be('00000010 00000001 00000008 0000000000010208'));
  r.forget();
  r.frontend(
    be(`00000005 00000009 00000028 00000001 00000000
        0000000100000000 0000000000200000 00007f0000000000 0000000000003000`).replaceAll('\n', ''),
    1,
  );
  await settle();
  r.guest(be('05000000 05000000 08000000 0000000000000000'));
  r.frontend(be('00000008 00000001 00000008 00000001 00000100'));
  r.frontend(
    be(`00000009 00000001 00000028 00000001 00000000 00007f0000001000
        00007f0000003000 00007f0000002000 0000000000000000`).replaceAll('\n', ''),
  );
  r.frontend(be('0000000c 00000001 00000008 0000000000000001'), 1);
  r.frontend(be('0000000b 00000001 00000008 00000001 00000000'));
  r.guest(be('0b000000 05000000 08000000 01000000 34120000'));
  t.is(r.closedWith, undefined);
  t.deepEqual(r.backend.calls, ['set 100000000', 'kick 1 fd']);
  t.deepEqual(r.traffic(), {
    guest: [
      be(`05000000 09000000 28000000 01000000 00000000 0000000001000000 0000200000000000
          00000000007f0000 00c0ab0000000000`).replaceAll('\n', ''),
      be('08000000 01000000 08000000 01000000 00010000'),
      be(`09000000 01000000 28000000 01000000 00000000 00100000007f0000 00300000007f0000
          00200000007f0000 0000000000000000`).replaceAll('\n', ''),
      be('0c000000 01000000 08000000 0100000000000000'),
      be('0b000000 01000000 08000000 01000000 00000000'),
    ],
    frontend: [
      be('00000005 00000005 00000008 0000000000000000'),
      be('0000000b 00000005 00000008 00000001 00001234'),
    ],
  });
});

test('bytes that are no number are not swapped: configuration space, MAC address', (t) => {
  const r = bigEndian();
  // CONFIG, RARP and REPLY_ACK.
  r.frontend(be('00000010 00000001 00000008 000000000000020c'));
  r.forget();
  r.frontend(be('00000018 00000001 00000012 00000000 00000006 00000000 000000000000'));
  r.guest(be('18000000 05000000 12000000 00000000 06000000 00000000 525400123456'));
  r.frontend(be('00000013 00000001 00000008 5254001234560000'));
  t.deepEqual(r.traffic(), {
    guest: [
      be('18000000 01000000 12000000 00000000 06000000 00000000 000000000000'),
      be('13000000 01000000 08000000 5254001234560000'),
    ],
    frontend: [be('00000018 00000005 00000012 00000000 00000006 00000000 525400123456')],
  });
});

test('a refusal is in the order of the socket', (t) => {
  const r = bigEndian();
  r.frontend(be('00000010 00000001 00000008 0000000000000008'));
  r.forget();
  r.frontend(be('00000063 00000009 00000000'));
  t.deepEqual(r.traffic().frontend, [be('00000063 00000005 00000008 0000000000000001')]);
});

type Order = 'LE' | 'BE';

/** A whole message in the order of its payload. */
function message(order: Order, request: number, flags: number, payload: string): string {
  const bytes = Buffer.alloc(12);
  const words = [request, rig.VERSION | flags, payload.length / 2];
  words.forEach((word, i) =>
    order === 'LE' ? bytes.writeUInt32LE(word, 4 * i) : bytes.writeUInt32BE(word, 4 * i),
  );
  return bytes.toString('hex') + payload;
}

const REGION = be('0000000200000000 0000000200000000 0000000000000000 0000000000000000');

/** A frontend that has accepted all that it was offered, and has 8 GiB of memory. */
async function negotiated(): Promise<Rig> {
  const r = new Rig({ order: 'BE', rules: { shareMemory: true } }, 512);
  for (const [get, set, value] of [
    [rig.GET_FEATURES, rig.SET_FEATURES, rig.ALL_FEATURES],
    [rig.GET_PROTOCOL_FEATURES, rig.SET_PROTOCOL_FEATURES, rig.ALL_PROTOCOL_FEATURES],
  ] as const) {
    r.frontend(message('BE', get, 0, ''));
    r.guest(message('LE', get, rig.REPLY, u64(value)));
    const offered = r.traffic().frontend[0]?.slice(24) ?? '';
    r.frontend(message('BE', set, 0, offered));
  }
  r.frontend(message('BE', rig.SET_MEM_TABLE, 0, `0000000100000000${REGION}`), 1);
  await settle();
  return r.forget();
}

/** What the guest sees of a payload: with the places of the fake window. */
function shown(name: string, le: string): string {
  if (name === 'SET_MEM_TABLE') {
    const regions = le.slice(16).match(/.{64}/g) ?? [];
    const places = regions.map((one, i) => one.slice(0, 48) + u64(0xabc000n + BigInt(i)));
    return le.slice(0, 16) + places.join('');
  }
  if (name === 'ADD_MEM_REG' || name === 'REM_MEM_REG') return le.slice(0, -16) + u64(0xabc000n);
  if (name === 'SET_INFLIGHT_FD') return le.slice(0, 16) + u64(0x1fffe000n) + le.slice(32);
  return name === 'SET_LOG_BASE' ? le.slice(0, -16) + u64(0xdef000n) : le;
}

/** QEMU's structure of a crypto session is its own: who does not know it cannot swap it. */
const UNSWAPPABLE = ['CREATE_CRYPTO_SESSION', 'CLOSE_CRYPTO_SESSION'];
const SUCCESS: Vector = { le: u64(0n), be: u64(0n), value: 0n, text: '' };
const passed = Object.entries(FRONTEND_POLICY).flatMap(([name, { treatment }]) =>
  ['refuse', 'provide'].includes(treatment) || UNSWAPPABLE.includes(name) ? [] : [name],
);

for (const name of passed) {
  const descriptor: MessageDescriptor = frontendMessages[name as keyof typeof frontendMessages];
  const { id, fds } = descriptor;
  // The bare address of a log without LOG_SHMFD is refused in any order.
  const requests = frontendRequests[name]!.filter(({ text }) => !text.startsWith('base='));

  test(`${name} is big-endian on the socket and little-endian towards the guest`, async (t) => {
    for (const request of requests) {
      for (const reply of frontendReplies[name] ?? [SUCCESS]) {
        const r = await negotiated();
        const count = descriptor.fdCount?.(request.value) ?? fds.min;
        r.frontend(message('BE', id, rig.NEED_REPLY, be(request.be)), count);
        await settle();
        const expected = message('LE', id, rig.NEED_REPLY, shown(name, be(request.le)));
        t.deepEqual(r.traffic(), { guest: [expected], frontend: [] }, request.text);
        r.guest(message('LE', id, rig.REPLY, be(reply.le)));
        const answer = message('BE', id, rig.REPLY, be(reply.be));
        t.deepEqual(r.traffic(), { guest: [], frontend: [answer] }, request.text);
        t.is(r.closedWith, undefined);
      }
    }
  });
}

test('GET_INFLIGHT_FD is big-endian on the socket and little-endian towards the guest', async (t) => {
  const r = await negotiated();
  const none = '0'.repeat(32);
  r.frontend(message('BE', rig.GET_INFLIGHT_FD, 0, be(`${none} 0002 0080 00000000`)));
  await settle();
  const place = be(`0030000000000000 00f0ff1f00000000 0200 8000 00000000`);
  t.deepEqual(r.traffic().guest, [message('LE', rig.GET_INFLIGHT_FD, 0, place)]);
  const kept = be(`8010000000000000 7700000000000000 0200 8000 00000000`);
  r.guest(message('LE', rig.GET_INFLIGHT_FD, rig.REPLY, kept));
  const answer = be(`0000000000001080 0000000000000000 0002 0080 00000000`);
  t.deepEqual(r.traffic().frontend, [message('BE', rig.GET_INFLIGHT_FD, rig.REPLY, answer)]);
  t.is(r.leaks(), 0);
});

const MISS: Vector = {
  le: `0010000000000000 ${'0'.repeat(32)} 0301000000000000`,
  be: `0000000000001000 ${'0'.repeat(32)} 0301000000000000`,
  value: undefined,
  text: 'a miss of 0x1000',
};

/** What the frontend sees of a request of the guest: with the offset that the fake device finds. */
function sent(name: string, payload: string): string {
  if (name !== 'SHMEM_MAP') return payload;
  const offset = BigInt(`0x${payload.slice(16, 32)}`) + 0x100000n;
  return payload.slice(0, 16) + offset.toString(16).padStart(16, '0') + payload.slice(32);
}

for (const [name, { treatment }] of Object.entries(BACKEND_POLICY)) {
  if (treatment === 'refuse') continue;
  const { id } = backendMessages[name as keyof typeof backendMessages];
  const requests = name === 'IOTLB_MSG' ? [MISS] : backendRequests[name]!;

  test(`BACKEND_${name} is little-endian on txq and big-endian on the channel`, async (t) => {
    for (const request of requests) {
      const r = await negotiated();
      r.frontend(message('BE', rig.SET_BACKEND_REQ_FD, 0, ''), 1);
      r.forget();
      r.guest(message('LE', id, rig.NEED_REPLY, be(request.le)));
      const expected = message('BE', id, rig.NEED_REPLY, sent(name, be(request.be)));
      t.deepEqual(r.channel.sent, [expected], request.text);
      r.channel.says(message('BE', id, rig.REPLY, be(SUCCESS.be)));
      const reply = message('LE', id, rig.REPLY, be(SUCCESS.le));
      t.deepEqual(r.traffic(), { guest: [reply], frontend: [] }, request.text);
      t.is(r.leaks(), 0);
    }
  });
}

test('what nobody can swap is not offered, and refused', async (t) => {
  for (const name of UNSWAPPABLE) {
    const r = await negotiated();
    const { id } = frontendMessages[name as keyof typeof frontendMessages];
    r.frontend(message('BE', id, rig.NEED_REPLY, be(frontendRequests[name]![0]!.be)));
    t.deepEqual(r.backend.guest, []);
    t.like(r.log.at(-1)?.fields, { code: 'NOT_NEGOTIATED' });
  }
});

test('the messages whose payload is the same in both orders are those of bytes', (t) => {
  const numbers = /[1-9a-f]/;
  const vectors = [...Object.entries(frontendRequests), ...Object.entries(frontendReplies)];
  const unswapped = vectors.flatMap(([name, list]) =>
    list.some(({ le, be: swapped }) => le === swapped && numbers.test(le)) ? [name] : [],
  );
  // A MAC address, QEMU's structures, a UUID. Configuration space is bytes behind three numbers.
  t.deepEqual([...new Set(unswapped)].sort(), [
    'CREATE_CRYPTO_SESSION',
    'GET_SHARED_OBJECT',
    'SEND_RARP',
  ]);
});
