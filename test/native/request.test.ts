import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { native } from '../../src/native.js';
import type { NativeSocket } from '../../src/native.js';
import {
  codeOf,
  openFds,
  Recorder,
  temporaryDirectory,
  turns,
  until,
  vfioMessage,
  vfioUser,
  vhostUser,
} from './helpers.js';
import { Command } from './request-commands.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

interface Connected {
  readonly socket: NativeSocket;
  readonly recorder: Recorder;
}

/** Runs `body` with a socket whose peer is served by another thread. */
async function withPeer(t: ExecutionContext, body: (c: Connected) => Promise<void>): Promise<void> {
  const recorder = new Recorder();
  let socket: NativeSocket | undefined;
  const listener = native.listen(join(directory, 'peer'), {}, (connection) => {
    socket = connection;
    connection.start(vfioUser, recorder);
  });
  const worker = new Worker(new URL('./fixtures/request-peer.js', import.meta.url), {
    workerData: listener.path,
  });
  await until(() => socket !== undefined);
  listener.close();
  if (socket !== undefined) await body({ socket, recorder });
  socket?.close();
  await worker.terminate();
  await turns();
  t.true(recorder.closes.length <= 1);
}

function command(id: number, code: number, size = 16): Buffer {
  const message = vfioMessage(id, size);
  message.writeUInt16LE(code, 2);
  return message;
}

test.serial('request returns the reply', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    for (let id = 0; id < 100; id++) {
      t.deepEqual(socket.request(command(id, Command.reply), 5000), vfioMessage(id, 32, 1));
    }
    t.is(socket.request(command(0xffff, Command.inPieces), 5000).length, 32);
    await turns();
    t.deepEqual(recorder.calls, []);
  });
});

test.serial('other messages are delivered afterwards, in order, with their fds', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    const reply = socket.request(command(7, Command.othersFirst), 5000);
    t.is(reply.readUInt16LE(0), 7);
    t.is(reply.readUInt32LE(8), 1);
    t.deepEqual(recorder.calls, []);
    await recorder.count(5);
    t.deepEqual(recorder.ids(), [7, 101, 0x8007, 102, 103]);
    t.is(recorder.messages[1]?.fds.length, 1);
    t.is(recorder.messages[3]?.bytes.length, 5000);
    for (const fd of recorder.messages[1]?.fds ?? []) native.closeFd(fd);
  });
});

test.serial('messages that waited obey pause, and close drops them with their fds', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    socket.pause();
    socket.request(command(7, Command.othersFirst), 5000);
    await turns();
    t.deepEqual(recorder.calls, []);
    recorder.onMessage = () => {
      socket.pause();
    };
    socket.resume();
    await recorder.count(1);
    await turns();
    t.deepEqual(recorder.ids(), [7]);
    const before = openFds();
    socket.close();
    t.is(await recorder.end(), 'CLOSED');
    t.deepEqual(recorder.ids(), [7]);
    // Both ends of the socket, and the fd of message 101.
    await until(() => openFds() === before - 3);
  });
});

test.serial('a request may be made inside of a message, and more than one', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    recorder.onMessage = ({ bytes }) => {
      if (bytes.readUInt16LE(0) !== 101) return;
      t.is(socket.request(command(8, Command.othersFirst), 5000).readUInt16LE(0), 8);
      t.is(socket.request(command(9, Command.reply), 5000).readUInt16LE(0), 9);
    };
    socket.send(command(7, Command.othersFirst));
    await until(() => recorder.ids().filter((id) => id === 103).length >= 1);
    socket.pause();
    t.deepEqual(recorder.ids().slice(0, 6), [7, 101, 0x8007, 102, 7, 103]);
  });
});

test.serial('TIMEOUT, and the late reply comes as a message', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    const start = Date.now();
    t.is(
      codeOf(() => socket.request(command(3, Command.late), 30)),
      'TIMEOUT',
    );
    t.true(Date.now() - start >= 29);
    t.true(Date.now() - start < 140);
    await recorder.count(1);
    t.deepEqual(recorder.ids(), [3]);
    t.is(
      codeOf(() => socket.request(command(3, Command.ignore), 0)),
      'TIMEOUT',
    );
  });
});

test.serial(
  'the end of the connection throws, then the rest is delivered, then closed',
  async (t) => {
    await withPeer(t, async ({ socket, recorder }) => {
      socket.pause();
      t.is(
        codeOf(() => socket.request(command(3, Command.othersThenLeave), 5000)),
        'EOF',
      );
      t.is(
        codeOf(() => socket.request(command(4, Command.reply), 5000)),
        'EOF',
      );
      await turns();
      t.deepEqual(recorder.calls, []);
      socket.resume();
      t.is(await recorder.end(), 'EOF');
      t.deepEqual(recorder.calls, ['message', 'message', 'closed']);
    });
  },
);

test.serial('a malformed reply ends the connection with its code', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    t.is(
      codeOf(() => socket.request(command(3, Command.badLength), 5000)),
      'BAD_LENGTH',
    );
    t.is(await recorder.end(), 'BAD_LENGTH');
  });
});

test.serial('fds of a reply are closed', async (t) => {
  await withPeer(t, async ({ socket }) => {
    socket.request(command(1, Command.reply), 5000);
    const before = openFds();
    socket.request(command(3, Command.replyWithFd), 5000);
    await until(() => openFds() === before);
    t.is(openFds(), before);
  });
});

test.serial('a flood instead of a reply is bounded', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    t.is(
      codeOf(() => socket.request(command(3, Command.flood), 60_000)),
      'ENOBUFS',
    );
    t.is(await recorder.end(), 'ENOBUFS');
    t.is(recorder.messages.length, 65_536);
  });
});

test.serial('what was queued before goes out before the request', async (t) => {
  await withPeer(t, async ({ socket, recorder }) => {
    let accepted = true;
    while (accepted) accepted = socket.send(command(1, Command.ignore, 1 << 20));
    t.is(socket.request(command(2, Command.reply), 10_000).readUInt16LE(0), 2);
    t.is(socket.queued, 0);
    await until(() => recorder.calls.includes('writable'));
    t.deepEqual(recorder.calls, ['writable']);
  });
});

test.serial('a peer that neither reads nor answers costs the timeout only', (t) => {
  const [socket, peer] = native.socketPair();
  const recorder = new Recorder();
  socket.start(vfioUser, recorder);
  while (socket.queued === 0) socket.send(vfioMessage(1, 1 << 16));
  t.is(
    codeOf(() => socket.request(vfioMessage(2), 20)),
    'TIMEOUT',
  );
  t.true(socket.queued > 16);
  socket.close();
  peer.close();
});

test.serial('requests that cannot be', (t) => {
  const [socket, peer] = native.socketPair();
  t.is(
    codeOf(() => socket.request(vfioMessage(1), 1)),
    'EINVAL',
  );
  socket.start(vfioUser, new Recorder());
  t.is(
    codeOf(() => socket.request(Buffer.alloc(11), 1)),
    'OUT_OF_RANGE',
  );
  for (const timeout of [-1, Number.NaN, 2 ** 31]) {
    t.is(
      codeOf(() => socket.request(vfioMessage(1), timeout)),
      'OUT_OF_RANGE',
    );
  }
  peer.start({ ...vhostUser, headerSize: 8, lengthOffset: 4 }, new Recorder());
  t.is(
    codeOf(() => peer.request(vfioMessage(1), 1)),
    'EINVAL',
  );
  socket.close();
  peer.close();
});
