import test from 'ava';

import { Rig, settle } from './rig.js';

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
      be('00000001 00000005 00000008 000000fd7fffffff'),
      // 0x1a2df without bit 7.
      be('0000000f 00000005 00000008 000000000011b25f'),
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
