import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import { FrameParser } from '../../src/vhost-user/index.js';
import { Rig, settle, u64 } from './rig.js';

interface Entry {
  readonly dir: 'frontend' | 'backend';
  readonly hex: string;
  /** Number of fds. */
  readonly fds: number;
}

/** Recorded between Debian's DPDK virtio-user and its vhost back-end. */
const folder = fileURLToPath(new URL('../../../test/transcripts/', import.meta.url));
const files = readdirSync(folder).filter((name) => /^dpdk-.*\.json$/.test(name));

function load(name: string): readonly Entry[] {
  return JSON.parse(readFileSync(folder + name, 'utf8')) as readonly Entry[];
}

const number = (hex: string): number => Buffer.from(hex, 'hex').readUInt32LE(0);
const SET_MEM_TABLE = 5;
const GET_PROTOCOL_FEATURES = 15;

/** A table of one region, whose mmap offset is what the fake window says. */
function inWindow(hex: string): string {
  return `${hex.slice(0, -16)}00c0ab0000000000`;
}

/** Without BACKEND_REQ, BACKEND_SEND_FD and HOST_NOTIFIER, which DPDK offers. */
function masked(hex: string): string {
  const features = Buffer.from(hex.slice(24), 'hex').readBigUInt64LE(0) & 0x1_a2dfn;
  return hex.slice(0, 24) + u64(features);
}

test('there are transcripts for one and for four queue pairs', (t) => {
  t.true(files.includes('dpdk-22.11-virtio-user-1q.json'));
  t.true(files.includes('dpdk-22.11-virtio-user-4q.json'));
});

for (const name of files) {
  test(`${name} passes through the tunnel`, async (t) => {
    const r = new Rig({}, 256);
    for (const { dir, hex, fds } of load(name)) {
      if (dir === 'frontend') {
        r.frontend(hex, fds);
        await settle();
        const expected = number(hex) === SET_MEM_TABLE ? inWindow(hex) : hex;
        t.deepEqual(r.traffic(), { guest: [expected], frontend: [] });
      } else {
        r.guest(hex);
        const expected = number(hex) === GET_PROTOCOL_FEATURES ? masked(hex) : hex;
        t.deepEqual(r.traffic(), { guest: [], frontend: [expected] });
      }
    }
    t.is(r.closedWith, undefined);
    t.is(r.leaks(), 0);
  });

  test(`${name} parses the same, cut anywhere`, (t) => {
    const entries = load(name).filter(({ dir }) => dir === 'frontend');
    const whole = entries.map(({ hex }) => hex.slice(24));
    for (const size of [1, 5, 11, 12, 13, 64]) {
      const parser = new FrameParser('LE');
      const frames = entries.flatMap(({ hex, fds }) => {
        const bytes = Buffer.from(hex, 'hex');
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        );
        return chunks.flatMap((chunk, index) =>
          parser.push(chunk, index === 0 ? Array<number>(fds).fill(3) : []),
        );
      });
      t.deepEqual(
        frames.map(({ payload }) => payload.toString('hex')),
        whole,
      );
      t.deepEqual(
        frames.map(({ fds }) => fds.length),
        entries.map(({ fds }) => fds),
      );
    }
  });
}
