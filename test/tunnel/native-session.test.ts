import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { native, type NativeSocket } from '../../src/native.js';
import { SocketEndpoint, type TunnelSession } from '../../src/tunnel/index.js';
import { vhostUserFraming } from '../../src/vhost-user/index.js';
import { FakeBackend } from './fakes.js';
import { GET_FEATURES, message, REPLY, SET_VRING_KICK, u64 } from './rig.js';

/** A frontend on a real socket. */
class Client {
  readonly received: string[] = [];
  ended: string | undefined;

  constructor(readonly socket: NativeSocket) {
    socket.start(vhostUserFraming, {
      message: (bytes) => this.received.push(bytes.toString('hex')),
      closed: (code) => (this.ended = code),
    });
  }

  send(hex: string, fds: readonly number[] = []): void {
    this.socket.send(Buffer.from(hex, 'hex'), fds);
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error('timed out');
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const openFds = (): number => readdirSync('/proc/self/fd').length;

test('over real sockets: wait, serve, refuse a second, drop, serve again; no fd is left', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tunnel-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'socket');
  const backend = new FakeBackend({ make: () => [], closeFd: (fd) => native.closeFd(fd) });
  const sessions: TunnelSession[] = [];
  const before = openFds();
  const endpoint = new SocketEndpoint({ path, mode: 'server', native });
  endpoint.attach(backend, (session) => {
    sessions.push(session);
    session.start();
  });
  endpoint.open();
  const rival = new SocketEndpoint({ path, mode: 'server', native });
  t.throws(() => rival.open(), { code: 'ADDRESS_IN_USE' });

  const first = new Client(native.connect(path));
  first.send(message(GET_FEATURES));
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.deepEqual(backend.guest, [], 'not read while the backend is down');
  endpoint.want(true);
  await until(() => backend.guest.length === 1);
  sessions.at(-1)?.fromGuest(Buffer.from(message(GET_FEATURES, u64(1n), REPLY), 'hex'));
  await until(() => first.received.length === 1);
  t.deepEqual(first.received, [message(GET_FEATURES, u64(1n), REPLY)]);

  const second = new Client(native.connect(path));
  await until(() => second.ended !== undefined);
  t.is(first.ended, undefined);

  // A kick whose index is out of range comes with an fd, which must not stay.
  const kick = native.createEventFd();
  first.send(message(SET_VRING_KICK, u64(200n)), [kick]);
  native.closeFd(kick);
  await until(() => first.ended !== undefined);
  t.is(backend.closed?.code, 'BAD_VRING');

  const third = new Client(native.connect(path));
  await until(() => sessions.length === 2);
  endpoint.want(false);
  await until(() => third.ended !== undefined);
  endpoint.close();
  [first, second, third].forEach(({ socket }) => socket.close());
  await until(() => openFds() <= before);
  t.true(openFds() <= before);
});
