import test from 'ava';
import { VvuError } from '../../src/errors.js';
import { SplitQueue } from '../../src/virtio/split-queue.js';
import { RawRing } from './raw-ring.js';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const F_INDIRECT = 1n << 28n;

/** One available chain that starts at descriptor `head`. */
function available(ring: RawRing, head: number): void {
  ring.availEntry(0, head);
  ring.availIndex(1);
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof VvuError && error.scope === 'device') return error.code;
    throw error;
  }
  return 'no error';
}

const broken: [string, string, bigint, (ring: RawRing) => void][] = [
  ['head out of range', 'DESCRIPTOR_INDEX', 0n, (ring) => available(ring, 4)],
  [
    'next out of range',
    'DESCRIPTOR_INDEX',
    0n,
    (ring) => {
      ring.descriptor(0, 0x4000n, 1, NEXT, 4);
      available(ring, 0);
    },
  ],
  [
    'loop',
    'DESCRIPTOR_LOOP',
    0n,
    (ring) => {
      ring.descriptor(0, 0x4000n, 1, NEXT, 1);
      ring.descriptor(1, 0x4000n, 1, NEXT, 0);
      available(ring, 0);
    },
  ],
  [
    'zero length',
    'DESCRIPTOR_ZERO_LENGTH',
    0n,
    (ring) => {
      ring.descriptor(0, 0x4000n, 0, 0);
      available(ring, 0);
    },
  ],
  [
    'readable after writable',
    'DESCRIPTOR_ORDER',
    0n,
    (ring) => {
      ring.descriptor(0, 0x4000n, 1, NEXT | WRITE, 1);
      ring.descriptor(1, 0x4000n, 1, 0);
      available(ring, 0);
    },
  ],
  [
    'address beyond 2^53',
    'DESCRIPTOR_RANGE',
    0n,
    (ring) => {
      ring.descriptor(0, 1n << 53n, 1, 0);
      available(ring, 0);
    },
  ],
  [
    'end beyond 2^53',
    'DESCRIPTOR_RANGE',
    0n,
    (ring) => {
      ring.descriptor(0, (1n << 53n) - 8n, 8, 0);
      available(ring, 0);
    },
  ],
  [
    'address wraps at 2^64',
    'DESCRIPTOR_RANGE',
    0n,
    (ring) => {
      ring.descriptor(0, (1n << 64n) - 1n, 2, 0);
      available(ring, 0);
    },
  ],
  [
    'more than 2^32 bytes',
    'CHAIN_TOO_LONG',
    0n,
    (ring) => {
      ring.descriptor(0, 0n, 0xffffffff, NEXT, 1);
      ring.descriptor(1, 0n, 2, 0);
      available(ring, 0);
    },
  ],
  [
    'indirect without the feature',
    'INDIRECT_NOT_NEGOTIATED',
    0n,
    (ring) => {
      ring.descriptor(0, 0x5000n, 16, INDIRECT);
      available(ring, 0);
    },
  ],
  [
    'indirect with next',
    'INDIRECT_WITH_NEXT',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 16, INDIRECT | NEXT, 1);
      available(ring, 0);
    },
  ],
  [
    'indirect of an odd length',
    'INDIRECT_LENGTH',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 17, INDIRECT);
      available(ring, 0);
    },
  ],
  [
    'indirect of no length',
    'INDIRECT_LENGTH',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 0, INDIRECT);
      available(ring, 0);
    },
  ],
  [
    'indirect in indirect',
    'INDIRECT_NESTED',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 16, INDIRECT);
      ring.rawDescriptor(0x5000, 0x6000n, 16, INDIRECT);
      available(ring, 0);
    },
  ],
  [
    'indirect next out of the table',
    'DESCRIPTOR_INDEX',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 32, INDIRECT);
      ring.rawDescriptor(0x5000, 0x4000n, 1, NEXT, 2);
      available(ring, 0);
    },
  ],
  [
    'loop in an indirect table',
    'DESCRIPTOR_LOOP',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0x5000n, 32, INDIRECT);
      ring.rawDescriptor(0x5000, 0x4000n, 1, NEXT, 1);
      ring.rawDescriptor(0x5010, 0x4000n, 1, NEXT, 0);
      available(ring, 0);
    },
  ],
  [
    'indirect table outside of memory',
    'DMA_UNMAPPED',
    F_INDIRECT,
    (ring) => {
      ring.descriptor(0, 0xfff8n, 16, INDIRECT);
      available(ring, 0);
    },
  ],
  ['avail.idx too far ahead', 'AVAIL_INDEX', 0n, (ring) => ring.availIndex(5)],
  ['avail.idx goes back', 'AVAIL_INDEX', 0n, (ring) => ring.availIndex(0xffff)],
];

for (const [name, code, features, setUp] of broken) {
  test(`broken ring: ${name}`, (t) => {
    const ring = new RawRing(4);
    setUp(ring);
    const queue = new SplitQueue(ring.memory, ring.config, features);
    t.is(
      codeOf(() => queue.pop()),
      code,
    );
    t.is(
      codeOf(() => queue.pop()),
      code,
      'the same error again, nothing was consumed',
    );
    t.is(queue.outstanding, 0);
  });
}
