import test from 'ava';
import { VhostUserDevice } from '../../src/device/device.js';
import type { NativeSocket } from '../../src/native.js';
import { SocketEndpoint } from '../../src/tunnel/index.js';
import { VIRTIO_F_VERSION_1 } from '../../src/virtio/constants.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeSocket } from '../tunnel/fakes.js';
import { GET_FEATURES, message, REPLY, u64 } from '../tunnel/rig.js';
import { RawRing } from '../virtio/raw-ring.js';
import { FakeFds } from './fakes.js';

const TXQ = 1;
const NOTHING = { close: () => undefined };
const REPLY_BYTES = 20;
const STALE = 0xdead;

const EVENTS = ['up', 'down', 'reset', 'connect', 'leave'] as const;
type Event = (typeof EVENTS)[number];

/** The device with its endpoint, a driver that is the test, and any number of frontends. */
class Rig {
  readonly clock = new FakeClock();
  readonly sockets: FakeSocket[] = [];
  readonly device: VhostUserDevice;
  configChanges = 0;
  private ring = new RawRing(64);
  private sent = 0;
  private started = false;
  private accept: (socket: NativeSocket) => void = () => undefined;

  constructor() {
    const fds = new FakeFds().native;
    const window = {
      size: 2 ** 20,
      preset: undefined,
      dynamic: false,
      apply: () => Promise.resolve(),
    };
    const endpoint = new SocketEndpoint({
      ...{ path: '/frontend', mode: 'server' as const, clock: this.clock },
      native: {
        listen: (path, _options, onConnection) => {
          this.accept = onConnection;
          return { path, close: () => undefined };
        },
        connect: () => {
          throw new Error('not in server mode');
        },
        closeFd: (fd) => fds.closeFd(fd),
        adoptSocket: () => {
          throw new Error('nobody opens a channel');
        },
      },
    });
    this.device = new VhostUserDevice({
      native: fds,
      host: {
        doorbells: { bind: () => NOTHING },
        kicks: { vectorCount: 8, bind: () => NOTHING },
        window,
      },
      ...{ endpoint, uuid: Buffer.alloc(16) },
    });
    endpoint.open();
  }

  /** The driver sets SLAVE_UP, after it has queued an answer to a frontend of before. */
  up(): void {
    if (!this.started) this.initialize();
    if (this.device.state === 'down') this.queue(STALE);
    this.device.config.write(0, Buffer.of(1));
  }

  down(): void {
    this.device.config.write(0, Buffer.of(0));
  }

  reset(): void {
    this.device.reset();
    this.started = false;
  }

  connect(): void {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    // What a fake socket lacks, nobody calls.
    this.accept(socket as unknown as NativeSocket);
    this.clock.advance(1000);
  }

  /** A frontend hangs up: one that is served is read, one that waits is not. */
  leave(index: number): void {
    const socket = this.sockets[index];
    if (socket?.started === true) socket.handlers?.closed('EOF', 'the peer closed');
    else socket?.hangUp();
    this.clock.advance(1000);
  }

  /** A frontend that is served from now on asks something. */
  ask(index: number): void {
    this.sockets[index]?.handlers?.message(Buffer.from(message(GET_FEATURES), 'hex'), []);
  }

  /** The driver answers whoever has asked with a number. */
  answer(answer: number): void {
    if (!this.started) return;
    this.queue(answer);
    this.device.kick(TXQ);
  }

  private initialize(): void {
    this.ring = new RawRing(64);
    this.sent = 0;
    this.started = true;
    this.device.attach({
      memory: this.ring.memory,
      notifyQueue: () => undefined,
      notifyConfig: () => this.configChanges++,
      needsReset: () => undefined,
    });
    this.device.acceptFeatures(VIRTIO_F_VERSION_1);
    this.device.enableQueue({ ...this.ring.config, index: TXQ });
    this.device.start();
  }

  private queue(answer: number): void {
    const bytes = Buffer.from(message(GET_FEATURES, u64(BigInt(answer)), REPLY), 'hex');
    const at = 0x4000 + this.sent * 64;
    this.ring.memory.write(at, bytes);
    this.ring.descriptor(this.sent, BigInt(at), REPLY_BYTES, 0);
    this.ring.availEntry(this.sent, this.sent);
    this.sent++;
    this.ring.availIndex(this.sent);
  }
}

/** What the RFC and docs/protocol.md say, apart from the code. */
class Model {
  up = false;
  served: number | undefined;
  waiting: number | undefined;
  count = 0;
  readonly closed = new Set<number>();

  apply(event: Event): void {
    if (event === 'connect') this.connect();
    else if (event === 'leave') this.leave();
    else if (event === 'up') this.up = true;
    else {
      this.up = false;
      this.drop();
    }
    if (this.up && this.served === undefined) {
      this.served = this.waiting;
      this.waiting = undefined;
    }
  }

  get status(): number {
    if (!this.up) return 0;
    return this.served === undefined ? 1 : 3;
  }

  private connect(): void {
    const newcomer = this.count++;
    if (this.served !== undefined) {
      this.closed.add(newcomer);
      return;
    }
    if (this.waiting !== undefined) this.closed.add(this.waiting);
    this.waiting = newcomer;
  }

  private leave(): void {
    if (this.served !== undefined) {
      // The driver has to set SLAVE_UP again.
      this.up = false;
      this.drop();
    } else if (this.waiting !== undefined) {
      this.closed.add(this.waiting);
      this.waiting = undefined;
    }
  }

  private drop(): void {
    if (this.served !== undefined) this.closed.add(this.served);
    this.served = undefined;
  }
}

/** @returns what went wrong, undefined if nothing */
function run(events: readonly Event[]): string | undefined {
  const rig = new Rig();
  const model = new Model();
  const expected: number[][] = [];
  for (const [step, event] of events.entries()) {
    const { served } = model;
    const leaving = served ?? model.waiting;
    if (event === 'leave') {
      if (leaving !== undefined) rig.leave(leaving);
    } else rig[event]();
    model.apply(event);
    if (event === 'connect') expected.push([]);
    if (model.served !== undefined && model.served !== served) {
      rig.ask(model.served);
      expected[model.served]?.push(step);
    }
    rig.answer(step);
    if (rig.device.config.status !== model.status) {
      return `status ${rig.device.config.status} instead of ${model.status} after step ${step}`;
    }
  }
  const answers = rig.sockets.map(({ sent }) =>
    sent.map((hex) => Number(Buffer.from(hex, 'hex').readBigUInt64LE(12))),
  );
  const closed = rig.sockets.map((socket) => socket.closed);
  const wanted = expected.map((_, index) => model.closed.has(index));
  if (JSON.stringify(answers) !== JSON.stringify(expected)) {
    return `answers ${JSON.stringify(answers)} instead of ${JSON.stringify(expected)}`;
  }
  if (JSON.stringify(closed) !== JSON.stringify(wanted)) {
    return `closed ${JSON.stringify(closed)} instead of ${JSON.stringify(wanted)}`;
  }
  return undefined;
}

function sequences(length: number): Event[][] {
  if (length === 0) return [[]];
  return sequences(length - 1).flatMap((events) => EVENTS.map((event) => [...events, event]));
}

const LENGTH = 5;

test(`every order of ${LENGTH} events of driver and frontends ends as the status protocol says`, (t) => {
  let count = 0;
  for (const events of sequences(LENGTH)) {
    const wrong = run(events);
    if (wrong !== undefined) t.fail(`${events.join(', ')}: ${wrong}`);
    count++;
  }
  t.is(count, EVENTS.length ** LENGTH);
});

test('the driver is told of a frontend that comes and of one that leaves, not of its own steps', (t) => {
  const rig = new Rig();
  rig.up();
  t.is(rig.configChanges, 0);
  rig.connect();
  t.is(rig.configChanges, 1);
  rig.leave(0);
  t.is(rig.configChanges, 2);
  rig.up();
  rig.connect();
  t.is(rig.configChanges, 3);
  rig.down();
  t.is(rig.configChanges, 3);
});
