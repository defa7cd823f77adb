import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import type { RecordedMessage } from '../record/recorder.js';
import { projectRoot } from '../support/paths.js';
import * as constants from '../../src/vhost-user/constants.js';

// The table of docs/protocol.md, "Recorded frontends", row by row against the transcripts.

const SET_FEATURES = 2;
const SET_PROTOCOL_FEATURES = 16;
const GET_PROTOCOL_FEATURES = 15;
const PREFIX = 'VHOST_USER_PROTOCOL_F_';

type Message = Pick<RecordedMessage, 'dir' | 'hex'>;

const folder = join(projectRoot, 'test/transcripts');
const names = new Map(
  Object.entries(constants).flatMap(([name, bit]) =>
    name.startsWith(PREFIX) ? [[Number(bit), name.slice(PREFIX.length)] as const] : [],
  ),
);

function bitNames(mask: bigint): string {
  const bits = [...names.keys()].sort((a, b) => a - b);
  return bits.flatMap((bit) => ((mask >> BigInt(bit)) & 1n ? [names.get(bit)] : [])).join(', ');
}

/** The value of the last message of a direction that has this request number. */
function last(messages: readonly Message[], dir: string, request: number): bigint {
  const bytes = messages
    .filter((message) => message.dir === dir)
    .map(({ hex }) => Buffer.from(hex, 'hex'))
    .filter((one) => one.readUInt32LE(0) === request);
  return bytes.at(-1)?.readBigUInt64LE(12) ?? 0n;
}

function row(file: string): string[] {
  const messages = JSON.parse(readFileSync(join(folder, file), 'utf8')) as readonly Message[];
  const accepted = last(messages, 'frontend', SET_PROTOCOL_FEATURES);
  const offered = last(messages, 'backend', GET_PROTOCOL_FEATURES);
  const features = last(messages, 'frontend', SET_FEATURES);
  const name = file.replace('.json', '');
  const left = bitNames(offered & ~accepted);
  return [name, `0x${features.toString(16)}`, bitNames(accepted), left === '' ? 'none' : left];
}

test('the table of recorded frontends says what the transcripts say', (t) => {
  const text = readFileSync(join(projectRoot, 'docs/protocol.md'), 'utf8');
  const section = text.slice(text.indexOf('## Recorded frontends'));
  const rows = [...section.matchAll(/^\| `((?:qemu|dpdk)-[^`]+)`(.*)\|$/gm)].map(
    ([, name = '', rest = '']) => [
      name,
      ...rest
        .split('|')
        .slice(1)
        .map((cell) => cell.trim()),
    ],
  );
  const expected = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map(row);
  t.deepEqual(rows, expected);
});
