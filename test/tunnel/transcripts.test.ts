import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import { FrameParser } from '../../src/vhost-user/index.js';
import { Rig, settle, TUNNELLED_PROTOCOL_FEATURES, u64 } from './rig.js';

interface Entry {
  readonly dir: 'frontend' | 'backend';
  readonly hex: string;
  /** Number of fds. */
  readonly fds: number;
}

/**
 * Of Debian's DPDK virtio-user and its vhost back-end, and of QEMU's devices and a device of ours;
 * docs/protocol.md tells how they were made.
 */
const folder = fileURLToPath(new URL('../../../test/transcripts/', import.meta.url));
const files = readdirSync(folder).filter((name) => name.endsWith('.json'));

function load(name: string): readonly Entry[] {
  return JSON.parse(readFileSync(folder + name, 'utf8')) as readonly Entry[];
}

const number = (hex: string): number => Buffer.from(hex, 'hex').readUInt32LE(0);
const SET_MEM_TABLE = 5;
const GET_PROTOCOL_FEATURES = 15;
const ADD_MEM_REG = 37;

/** A memory request of one region, whose mmap offset is what the fake window says. */
function inWindow(hex: string): string {
  return `${hex.slice(0, -16)}00c0ab0000000000`;
}

/** Without BACKEND_SEND_FD and HOST_NOTIFIER, which DPDK offers. */
function masked(hex: string): string {
  const features =
    Buffer.from(hex.slice(24), 'hex').readBigUInt64LE(0) & TUNNELLED_PROTOCOL_FEATURES;
  return hex.slice(0, 24) + u64(features);
}

test('there are transcripts of every frontend', (t) => {
  for (const name of ['dpdk-22.11-virtio-user-1q', 'dpdk-22.11-virtio-user-4q']) {
    t.true(files.includes(`${name}.json`), name);
  }
  for (const qemu of ['qemu-7.2', 'qemu-11.1']) {
    for (const device of ['net-2q', 'blk', 'fs']) t.true(files.includes(`${qemu}-${device}.json`));
  }
});

for (const name of files) {
  test(`${name} passes through the tunnel`, async (t) => {
    const r = new Rig({}, 256);
    const entries = load(name);
    const added = new Set<string>();
    for (const [index, { dir, hex, fds }] of entries.entries()) {
      if (dir === 'backend') continue;
      r.frontend(hex, fds);
      await settle();
      if (number(hex) === ADD_MEM_REG && added.has(hex)) {
        // Once per queue pair: the guest knows the region already.
        const answer = { guest: [], frontend: [entries[index + 1]?.hex] };
        t.deepEqual(r.traffic(), answer, `repeated request ${index}`);
        continue;
      }
      if (number(hex) === ADD_MEM_REG) added.add(hex);
      const memory = number(hex) === SET_MEM_TABLE || number(hex) === ADD_MEM_REG;
      const seen = { guest: [memory ? inWindow(hex) : hex], frontend: [] };
      t.deepEqual(r.traffic(), seen, `request ${index}`);
      const reply = entries[index + 1];
      if (reply?.dir !== 'backend') continue;
      r.guest(reply.hex);
      const got = number(hex) === GET_PROTOCOL_FEATURES ? masked(reply.hex) : reply.hex;
      t.deepEqual(r.traffic(), { guest: [], frontend: [got] }, `reply ${index}`);
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
