import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import type { PciAccess } from '../../src/guest/pci-access.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { native } from '../../src/native.js';
import { testDirectory } from '../guest/rig.js';
import { RawPeer } from '../malformed/raw-peer.js';
import type { RecordedMessage } from '../record/recorder.js';
import { startEchoBackend } from '../support/echo-backend.js';
import { IdleFds } from '../support/idle-fds.js';
import { VHOST_USER_FRAMING } from '../support/raw-rig.js';
import { DeviceProcess } from '../vm/device-process.js';
import { startGuest } from './in-process-guest.js';
import { ADD_MEM_REG, GET_VRING_BASE } from './rig.js';

// A real device, and a frontend that says what QEMU 11.1 said. The connection is cut behind each of
// its messages, and inside each of them, by either side: the next frontend is served each time.

const file = new URL('../../../test/transcripts/qemu-11.1-net-2q.json', import.meta.url);
const transcript = JSON.parse(
  readFileSync(fileURLToPath(file), 'utf8'),
) as readonly RecordedMessage[];
const QUEUE_PAIRS = 2;
/** QEMU's RAM fits in. */
const WINDOW_BYTES = 512 << 20;

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

/** A back-end channel whose other end is gone. */
function halfPair(): number {
  const [theirs, ours] = native.createSocketPair();
  native.closeFd(ours);
  return theirs;
}

/** Fds like those that were recorded; QEMU's RAM is as large as its region says. */
function makeFds(message: RecordedMessage): number[] {
  if (requestOf(message) !== ADD_MEM_REG) {
    return message.kinds.map((kind) => (kind === 'socket' ? halfPair() : native.createEventFd()));
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

/** Like `until`, for what takes a few turns of the event loop. */
async function soon(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited 20 s for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A driver and a backend of a machine, which come and go while the device stays. */
class Appliance {
  driver: VvuDriver;
  #loop: PollLoop;

  constructor(readonly access: PciAccess) {
    [this.driver, this.#loop] = this.#boot();
  }

  /** What runs in the guest ends, with or without a word to the device, and another begins. */
  async restart(end: () => void): Promise<void> {
    await this.#loop.stop();
    end();
    this.driver.close();
    [this.driver, this.#loop] = this.#boot();
  }

  async close(): Promise<void> {
    await this.#loop.stop();
    this.driver.close();
  }

  #boot(): [VvuDriver, PollLoop] {
    const driver = new VvuDriver(this.access, { statusIntervalMs: 0 });
    const echo = new NetEcho(QUEUE_PAIRS);
    new VhostUserBackend(driver, echo);
    driver.start();
    return [driver, new PollLoop([driver, echo])];
  }
}

type Next = RecordedMessage | undefined;
type Cut = (peer: RawPeer, appliance: Appliance, next: Next) => void | Promise<void>;

const cuts: Readonly<Record<string, Cut>> = {
  'the frontend leaves': (peer) => peer.close(),
  'the frontend leaves inside the next message': (peer, _appliance, next) => {
    if (next !== undefined) send(peer, next, bytesOf(next).subarray(0, -1));
    peer.close();
  },
  'the frontend leaves inside the next header': (peer, _appliance, next) => {
    if (next !== undefined) send(peer, next, bytesOf(next).subarray(0, 5));
    peer.close();
  },
  'the driver drops the frontend': (_peer, { driver }) => driver.dropFrontend('cut'),
  'the backend goes down and comes up': (_peer, { driver }) => {
    driver.stop('cut');
    driver.start();
  },
  'the driver resets the device and begins anew': (_peer, appliance) =>
    appliance.restart(() => undefined),
  'the function is reset under its driver': (_peer, appliance) =>
    appliance.restart(() => appliance.access.reset()),
};

const openFds = (): number => readdirSync('/proc/self/fd').length;

for (const [name, cut] of Object.entries(cuts)) {
  test.serial(`${name}, after each message of QEMU's`, async (t) => {
    const vhostUser = join(testDirectory(t), 'vhost-user');
    const guest = startGuest(vhostUser, WINDOW_BYTES);
    t.teardown(() => guest.close());
    const appliance = new Appliance(guest.access);
    t.teardown(() => appliance.close());
    const connect = () => new RawPeer(vhostUser, VHOST_USER_FRAMING);
    const idle = openFds();
    for (let count = 0; count <= exchanges.length; count++) {
      const peer = connect();
      await soon(() => appliance.driver.connected, `the connection that ends after ${count}`);
      await replay(t, peer, count);
      await cut(peer, appliance, exchanges[count]?.message);
      await soon(() => !appliance.driver.connected, `the end after ${count} messages`);
      await soon(() => peer.closed !== undefined, `the frontend's end after ${count} messages`);
      peer.close();
      await soon(() => openFds() === idle, `${idle} fds after ${count} messages`);
    }
    const last = connect();
    await replay(t, last, exchanges.length);
    last.close();
    await soon(() => openFds() === idle, `${idle} fds at the end`);
  });
}

/** Behind nothing, and behind the first message of each kind. */
const kinds = exchanges.flatMap(({ message }, index) => {
  const first = exchanges.findIndex((one) => requestOf(one.message) === requestOf(message));
  return first === index ? [index + 1] : [];
});

test.serial("the driver's process dies, after each kind of message of QEMU's", async (t) => {
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=512M' });
  t.teardown(() => device.close());
  const idle = new IdleFds(device);
  await idle.measure();
  for (const count of [0, ...kinds]) {
    const backend = await startEchoBackend(device.vfioUser, { queuePairs: QUEUE_PAIRS });
    const peer = new RawPeer(device.vhostUser, VHOST_USER_FRAMING);
    await soon(() => backend.driver.connected, `the connection that ends after ${count}`);
    await replay(t, peer, count);
    // Its connection ends, without a reset or any other word.
    backend.access.close();
    await backend.stop();
    await soon(() => peer.closed !== undefined, `the frontend's end after ${count} messages`);
    peer.close();
    t.is(await idle.settled(), idle.count, `fds after ${count} messages`);
  }
});
