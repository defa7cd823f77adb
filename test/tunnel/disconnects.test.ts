import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { native } from '../../src/native.js';
import { ADD_MEM_REG, GET_VRING_BASE } from './rig.js';
import { RawPeer } from '../malformed/raw-peer.js';
import type { RecordedMessage } from '../record/recorder.js';
import { startEchoBackend, type EchoBackend } from '../support/echo-backend.js';
import { IdleFds } from '../support/idle-fds.js';
import { VHOST_USER_FRAMING } from '../support/raw-rig.js';
import { until } from '../support/until.js';
import { DeviceProcess } from '../vm/device-process.js';

// A real device, and a frontend that says what QEMU 11.1 said. The connection is cut behind each of
// its messages, and inside each of them.

const file = new URL('../../../test/transcripts/qemu-11.1-net-2q.json', import.meta.url);
const transcript = JSON.parse(
  readFileSync(fileURLToPath(file), 'utf8'),
) as readonly RecordedMessage[];

interface Exchange {
  readonly message: RecordedMessage;
  readonly reply: RecordedMessage | undefined;
}

const exchanges: Exchange[] = transcript.flatMap((message, index) => {
  const next = transcript[index + 1];
  const reply = next?.dir === 'backend' ? next : undefined;
  return message.dir === 'frontend' ? [{ message, reply }] : [];
});

const bytesOf = ({ hex }: RecordedMessage): Buffer => Buffer.from(hex, 'hex');
const requestOf = (message: RecordedMessage): number => bytesOf(message).readUInt32LE(0);

/** Fds like those that were recorded; QEMU's RAM is as large as its region says. */
function makeFds(message: RecordedMessage): number[] {
  if (requestOf(message) !== ADD_MEM_REG) {
    return message.kinds.map(() => native.createEventFd());
  }
  const region = bytesOf(message).subarray(20);
  const size = Number(region.readBigUInt64LE(8) + region.readBigUInt64LE(24));
  return [native.createMemfd('replayed', size)];
}

function send(peer: RawPeer, message: RecordedMessage, bytes = bytesOf(message)): void {
  const fds = makeFds(message);
  peer.send(bytes, fds);
  for (const fd of fds) native.closeFd(fd);
}

/** The first `count` requests, each answered as QEMU was answered. */
async function replay(t: ExecutionContext, peer: RawPeer, count: number): Promise<void> {
  for (const { message, reply } of exchanges.slice(0, count)) {
    send(peer, message);
    if (reply === undefined) continue;
    const answer = (await peer.next())?.toString('hex');
    // Where a ring stands depends on the packets that a guest sent.
    const length = requestOf(message) === GET_VRING_BASE ? 32 : undefined;
    t.is(answer?.slice(0, length), reply.hex.slice(0, length), message.text);
  }
}

type Cut = (peer: RawPeer, backend: EchoBackend, next: RecordedMessage | undefined) => void;

const cuts: Readonly<Record<string, Cut>> = {
  'the frontend leaves': (peer) => peer.close(),
  'the frontend leaves inside the next message': (peer, _backend, next) => {
    if (next !== undefined) send(peer, next, bytesOf(next).subarray(0, -1));
    peer.close();
  },
  'the frontend leaves inside the next header': (peer, _backend, next) => {
    if (next !== undefined) send(peer, next, bytesOf(next).subarray(0, 5));
    peer.close();
  },
  'the driver drops the frontend': (_peer, { driver }) => driver.dropFrontend('cut'),
  'the backend goes down and comes up': (_peer, { driver }) => {
    driver.stop('cut');
    driver.start();
  },
};

for (const [name, cut] of Object.entries(cuts)) {
  test(`${name}, after each message of QEMU's`, async (t) => {
    const device = await DeviceProcess.start({ layout: 'split', window: 'size=512M' });
    t.teardown(() => device.close());
    const backend = await startEchoBackend(device.vfioUser, { queuePairs: 2 });
    t.teardown(() => backend.stop());
    const idle = new IdleFds(device);
    await idle.measure();
    for (let count = 0; count <= exchanges.length; count++) {
      const peer = new RawPeer(device.vhostUser, VHOST_USER_FRAMING);
      await until(() => backend.driver.connected, `the connection that ends after ${count}`);
      await replay(t, peer, count);
      cut(peer, backend, exchanges[count]?.message);
      await until(() => !backend.driver.connected, `the end after ${count} messages`);
      await until(() => peer.closed !== undefined, `the frontend's end after ${count} messages`);
      peer.close();
      t.is(await idle.settled(), idle.count, `fds after ${count} messages`);
    }
    const last = new RawPeer(device.vhostUser, VHOST_USER_FRAMING);
    t.teardown(() => last.close());
    await replay(t, last, exchanges.length);
  });
}
