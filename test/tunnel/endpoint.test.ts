import test from 'ava';

import type { EndpointOptions, TunnelSession } from '../../src/tunnel/index.js';
import { SocketEndpoint } from '../../src/tunnel/index.js';
import type { NativeListener, NativeSocket } from '../../src/native.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeBackend, FakeSocket, FdAccount, recordingLogger, type LogLine } from './fakes.js';

class EndpointRig {
  readonly fds = new FdAccount();
  readonly clock = new FakeClock();
  readonly backend = new FakeBackend(this.fds);
  readonly log: LogLine[] = [];
  readonly sessions: TunnelSession[] = [];
  readonly connects: { at: number; socket: FakeSocket | undefined }[] = [];
  readonly endpoint: SocketEndpoint;
  /** Client mode: whether somebody listens. */
  reachable = false;
  listenError: Error | undefined;
  listening = false;
  #onConnection: ((socket: NativeSocket) => void) | undefined;

  constructor(mode: EndpointOptions['mode']) {
    this.endpoint = new SocketEndpoint({
      path: '/run/example.sock',
      mode,
      log: recordingLogger(this.log),
      clock: this.clock,
      native: {
        listen: (path, _options, onConnection) => this.#listen(path, onConnection),
        connect: () => this.#connect(),
        closeFd: this.fds.closeFd,
        adoptSocket: (fd) => asNative(this.fds.adoptSocket(fd)),
      },
    });
    this.endpoint.attach(this.backend, (session) => {
      this.sessions.push(session);
      session.start();
    });
  }

  /** A frontend connects to the listening endpoint. */
  arrive(): FakeSocket {
    const socket = new FakeSocket();
    this.#onConnection?.(asNative(socket));
    return socket;
  }

  texts(): string[] {
    return this.log.filter(({ level }) => level === 'warn').map(({ text }) => text);
  }

  #listen(path: string, onConnection: (socket: NativeSocket) => void): NativeListener {
    if (this.listenError !== undefined) {
      throw this.listenError;
    }
    this.#onConnection = onConnection;
    this.listening = true;
    return {
      path,
      close: () => {
        this.listening = false;
      },
    };
  }

  #connect(): NativeSocket {
    const socket = this.reachable ? new FakeSocket() : undefined;
    this.connects.push({ at: this.clock.time, socket });
    if (socket === undefined) {
      throw Object.assign(new Error('nobody listens'), { code: 'ECONNREFUSED' });
    }
    return asNative(socket);
  }
}

/** The endpoint and its sessions use no more of a socket than the fake has. */
function asNative(socket: FakeSocket): NativeSocket {
  return socket as unknown as NativeSocket;
}

test('server: a frontend is served while the backend is up', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  t.true(r.listening);
  r.endpoint.want(true);
  const socket = r.arrive();
  t.is(r.sessions.length, 1);
  t.true(socket.started);
  socket.handlers?.closed('EOF', '');
  t.is(r.backend.closed?.code, 'EOF');
  const next = r.arrive();
  t.true(next.started);
  t.is(r.sessions.length, 2);
});

test('server: a frontend waits unread until the backend is up', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  const socket = r.arrive();
  t.false(socket.started);
  t.is(r.sessions.length, 0);
  r.endpoint.want(true);
  t.true(socket.started);
  t.is(r.sessions.length, 1);
});

test('server: when the backend goes down the frontend is disconnected and the next one waits', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const first = r.arrive();
  r.endpoint.want(false);
  t.true(first.closed);
  t.is(r.backend.closed?.code, 'CLOSED');
  const second = r.arrive();
  r.clock.advance(60_000);
  t.false(second.started);
  t.false(second.closed);
  r.endpoint.want(true);
  t.true(second.started);
});

test('server: a second frontend is closed, the first goes on', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const first = r.arrive();
  const second = r.arrive();
  r.clock.advance(100);
  t.true(second.closed);
  t.false(second.started);
  t.false(first.closed);
  t.deepEqual(r.texts(), ['second frontend refused, one is connected']);
});

test('server: a frontend that reconnects may overtake the end of its old connection', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const first = r.arrive();
  const second = r.arrive();
  r.clock.advance(10);
  first.handlers?.closed('EOF', '');
  r.clock.advance(0);
  t.true(second.started);
  r.clock.advance(1000);
  t.false(second.closed);
  t.is(r.sessions.length, 2);
});

test('server: the overtaking frontend waits when the end took the backend down', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const first = r.arrive();
  const second = r.arrive();
  first.handlers?.closed('EOF', '');
  r.endpoint.want(false);
  r.clock.advance(1000);
  t.false(second.started);
  t.false(second.closed);
  r.endpoint.want(true);
  t.true(second.started);
});

test('server: of waiting frontends the latest is kept, so a dead one blocks nobody', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  const sockets = [r.arrive(), r.arrive(), r.arrive()];
  t.deepEqual(
    sockets.map(({ closed }) => closed),
    [true, true, false],
  );
  r.endpoint.want(true);
  t.true(sockets[2]?.started);
  t.is(r.sessions.length, 1);
});

test('server: a waiting frontend that leaves is noticed without being read', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  const gone = r.arrive();
  gone.hangUp();
  t.true(gone.closed);
  t.false(gone.started);
  t.deepEqual(
    r.log.map(({ text }) => text),
    ['frontend waits for the backend', 'waiting frontend left'],
  );
  r.endpoint.want(true);
  t.is(r.sessions.length, 0, 'there is nobody to serve');
  const next = r.arrive();
  t.true(next.started);
  t.deepEqual(r.texts(), []);
});

test('server: one that overtook and left again is forgotten, and the first goes on', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const first = r.arrive();
  const second = r.arrive();
  second.hangUp();
  r.clock.advance(1000);
  t.true(second.closed);
  t.false(first.closed);
  t.deepEqual(r.texts(), []);
  first.handlers?.closed('EOF', '');
  r.clock.advance(1000);
  t.is(r.sessions.length, 1);
});

test('server: the end of a connection that was replaced means nothing to the next', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  const first = r.arrive();
  const second = r.arrive();
  first.hangUp();
  t.false(second.closed);
  r.endpoint.want(true);
  t.true(second.started);
});

test('server: an occupied path is a setup error with its code', (t) => {
  const r = new EndpointRig('server');
  r.listenError = Object.assign(new Error('a live server listens'), { code: 'ADDRESS_IN_USE' });
  t.throws(() => r.endpoint.open(), {
    code: 'ADDRESS_IN_USE',
    message: /cannot listen on \/run\/example\.sock/,
  });
});

test('server: close ends everything, and connections that still arrive', (t) => {
  const r = new EndpointRig('server');
  r.endpoint.open();
  r.endpoint.want(true);
  const served = r.arrive();
  const waiting = r.arrive();
  r.endpoint.close();
  r.endpoint.close();
  const late = r.arrive();
  t.true(served.closed && waiting.closed && late.closed);
  t.false(r.listening);
  t.is(r.clock.pending, 0);
  r.endpoint.want(true);
  r.endpoint.open();
  t.false(r.listening);
});

test('client: connects only while wanted', (t) => {
  const r = new EndpointRig('client');
  r.reachable = true;
  r.endpoint.open();
  r.clock.advance(10_000);
  t.is(r.connects.length, 0);
  r.endpoint.want(true);
  t.is(r.connects.length, 1);
  t.true(r.connects[0]?.socket?.started);
  r.endpoint.want(false);
  t.true(r.connects[0]?.socket?.closed);
  r.clock.advance(10_000);
  t.is(r.connects.length, 1);
});

test('client: attempts are repeated with growing delays', (t) => {
  const r = new EndpointRig('client');
  r.endpoint.want(true);
  r.clock.advance(30_000);
  t.deepEqual(
    r.connects.map(({ at }) => at),
    [0, 100, 300, 700, 1500, 3100, 6300, 11_300, 16_300, 21_300, 26_300],
  );
  r.reachable = true;
  r.clock.advance(5000);
  t.is(r.sessions.length, 1);
  r.endpoint.want(false);
  t.is(r.backend.closed?.code, 'CLOSED');
});

test('client: attempts stop when nobody wants them any more', (t) => {
  const r = new EndpointRig('client');
  r.endpoint.want(true);
  r.clock.advance(150);
  r.endpoint.want(false);
  const { length } = r.connects;
  r.clock.advance(60_000);
  t.is(r.connects.length, length);
  t.is(r.clock.pending, 0);
});

test('client: a frontend that hangs up at once is not asked in a loop, though the backend is back', (t) => {
  const r = new EndpointRig('client');
  r.reachable = true;
  r.endpoint.want(true);
  for (let round = 0; round < 200; round++) {
    const socket = r.connects.at(-1)?.socket;
    if (socket?.closed === false) {
      // What the device does: the link goes down, and the driver comes up again at once.
      socket.handlers?.closed('EOF', '');
      r.endpoint.want(false);
      r.endpoint.want(true);
    }
    r.clock.advance(50);
  }
  t.deepEqual(
    r.connects.slice(0, 6).map(({ at }) => at),
    [0, 100, 300, 700, 1500, 3100],
  );
});

test('client: after a connection that lasted the delays start over', (t) => {
  const r = new EndpointRig('client');
  r.endpoint.want(true);
  r.clock.advance(12_000);
  r.reachable = true;
  r.clock.advance(5000);
  const { at, socket } = r.connects.at(-1) ?? { at: 0, socket: undefined };
  r.clock.advance(60_000);
  socket?.handlers?.closed('EOF', '');
  const ended = r.clock.time;
  r.clock.advance(100);
  t.true(ended > at);
  t.is(r.connects.at(-1)?.at, ended + 100);
});

test('an endpoint that was not attached says so', (t) => {
  const { fds } = new EndpointRig('server');
  const unused = () => {
    throw new Error('not used');
  };
  const lone = new SocketEndpoint({
    path: '',
    mode: 'client',
    native: {
      listen: unused,
      connect: unused,
      closeFd: fds.closeFd,
      adoptSocket: unused,
    },
  });
  t.throws(() => lone.want(true), { code: 'NOT_ATTACHED' });
});
