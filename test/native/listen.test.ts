import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { native } from '../../src/native.js';
import type { NativeSocket } from '../../src/native.js';
import { codeOf, openFds, Recorder, temporaryDirectory, until, vfioMessage } from './helpers.js';
import { vfioUser } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

const ignore = (): void => undefined;

test.serial('accepts connections and unlinks its file on close', async (t) => {
  const before = openFds();
  const path = join(directory, 'accept');
  const recorder = new Recorder();
  const accepted: NativeSocket[] = [];
  const listener = native.listen(path, {}, (socket) => {
    accepted.push(socket);
    socket.start(vfioUser, recorder);
  });
  t.is(listener.path, path);
  const client = native.connect(path);
  const fd = native.createEventFd();
  client.send(vfioMessage(5), [fd]);
  await recorder.count(1);
  t.deepEqual(recorder.ids(), [5]);
  t.is(accepted[0]?.peer.pid, process.pid);
  for (const each of recorder.messages[0]?.fds ?? []) native.closeFd(each);
  listener.close();
  listener.close();
  t.false(existsSync(path));
  // What was accepted lives on.
  client.send(vfioMessage(6));
  await recorder.count(2);
  client.close();
  t.is(await recorder.end(), 'EOF');
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('the file has the mode asked for, whatever the umask', (t) => {
  for (const umask of [0o000, 0o022, 0o077]) {
    const saved = process.umask(umask);
    const path = join(directory, 'mode');
    try {
      for (const mode of [0o600, 0o660, 0o666]) {
        const listener = native.listen(path, { mode }, ignore);
        t.is(statSync(path).mode & 0o777, mode);
        listener.close();
      }
      const listener = native.listen(path, {}, ignore);
      t.is(statSync(path).mode & 0o777, 0o600);
      listener.close();
    } finally {
      process.umask(saved);
    }
  }
});

test.serial('the file has the group asked for', (t) => {
  const path = join(directory, 'group');
  const root = process.getuid?.() === 0;
  const gid = root ? 1234 : (process.getgid?.() ?? 0);
  const listener = native.listen(path, { mode: 0o660, gid }, ignore);
  t.is(statSync(path).gid, gid);
  t.is(statSync(path).mode & 0o777, 0o660);
  listener.close();
});

test.serial('a stale socket file is replaced', async (t) => {
  const path = join(directory, 'stale');
  // A process that was killed leaves its file behind.
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  t.is(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL');
  t.true(existsSync(path));
  let connections = 0;
  const listener = native.listen(path, {}, (socket) => {
    connections += 1;
    socket.close();
  });
  const client = native.connect(path);
  await until(() => connections === 1);
  client.close();
  listener.close();
  t.false(existsSync(path));
});

test.serial('a live server is left alone', async (t) => {
  const path = join(directory, 'live');
  const listener = native.listen(path, {}, (socket) => {
    socket.close();
  });
  t.is(
    codeOf(() => native.listen(path, {}, ignore)),
    'ADDRESS_IN_USE',
  );
  t.true(existsSync(path));
  listener.close();
  const foreign = createServer();
  await new Promise<void>((resolve) => foreign.listen(path, resolve));
  t.is(
    codeOf(() => native.listen(path, {}, ignore)),
    'ADDRESS_IN_USE',
  );
  await new Promise((resolve) => foreign.close(resolve));
});

test.serial('other files are not touched', (t) => {
  const before = openFds();
  const file = join(directory, 'file');
  writeFileSync(file, 'precious');
  const link = join(directory, 'link');
  symlinkSync(file, link);
  for (const path of [file, link, directory]) {
    t.is(
      codeOf(() => native.listen(path, {}, ignore)),
      'EEXIST',
    );
  }
  t.is(statSync(file).size, 8);
  t.is(openFds(), before);
});

test.serial('close leaves a file alone that is no longer ours', (t) => {
  const path = join(directory, 'moved');
  const listener = native.listen(path, {}, ignore);
  renameSync(path, `${path}-elsewhere`);
  writeFileSync(path, 'of somebody else');
  listener.close();
  t.true(existsSync(path));
});

test.serial('paths that cannot be', (t) => {
  const long = join(directory, 'x'.repeat(108));
  const listenError = t.throws(() => native.listen(long, {}, ignore));
  t.regex(listenError.message, /^ENAMETOOLONG: .*at most 107/);
  t.is(
    codeOf(() => native.connect(long)),
    'ENAMETOOLONG',
  );
  t.is(
    codeOf(() => native.listen('', {}, ignore)),
    'ENOENT',
  );
  t.is(
    codeOf(() => native.listen(`${directory}/a\0b`, {}, ignore)),
    'EINVAL',
  );
  t.is(
    codeOf(() => native.listen(join(directory, 'none', 'socket'), {}, ignore)),
    'ENOENT',
  );
  const exact = directory + '/' + 'y'.repeat(107 - directory.length - 1);
  const listener = native.listen(exact, {}, ignore);
  listener.close();
});

test.serial('wrong options', (t) => {
  const path = join(directory, 'options');
  for (const options of [{ mode: 0o1777 }, { mode: -1 }, { gid: -1 }, { gid: 0.5 }]) {
    t.is(
      codeOf(() => native.listen(path, options, ignore)),
      'OUT_OF_RANGE',
    );
  }
  t.false(existsSync(path));
});

test.serial('connect fails at once with the errno', (t) => {
  const before = openFds();
  t.is(
    codeOf(() => native.connect(join(directory, 'nobody'))),
    'ENOENT',
  );
  const file = join(directory, 'no-socket');
  writeFileSync(file, '');
  t.is(
    codeOf(() => native.connect(file)),
    'ECONNREFUSED',
  );
  t.is(openFds(), before);
});

test.serial('close inside of onConnection', async (t) => {
  const before = openFds();
  const path = join(directory, 'inside');
  let connections = 0;
  const listener = native.listen(path, {}, (socket) => {
    connections += 1;
    socket.close();
    listener.close();
  });
  const clients = [native.connect(path), native.connect(path), native.connect(path)];
  const recorders = clients.map((client) => {
    const recorder = new Recorder();
    client.start(vfioUser, recorder);
    return recorder;
  });
  for (const recorder of recorders) t.regex(await recorder.end(), /^(EOF|ECONNRESET)$/);
  t.is(connections, 1);
  t.is(openFds(), before);
});

test.serial('a full fd table delays connections and does not spin or fail', (t) => {
  const script = fileURLToPath(new URL('./fixtures/emfile.js', import.meta.url));
  const path = join(directory, 'emfile');
  const child = spawnSync(
    'sh',
    ['-c', `ulimit -n 128; exec "${process.execPath}" "${script}" "${path}"`],
    { encoding: 'utf8', timeout: 20_000 },
  );
  t.is(child.stderr, '');
  t.is(child.stdout.trim(), 'accepted without spinning');
});

test.serial('the file goes with a process that ends by itself', (t) => {
  const script = fileURLToPath(new URL('./fixtures/listen-and-exit.js', import.meta.url));
  const path = join(directory, 'exit');
  const child = spawnSync(process.execPath, [script, path], { encoding: 'utf8' });
  t.is(child.stderr, '');
  t.is(child.stdout.trim(), 'listening');
  t.is(child.status, 0);
  t.false(existsSync(path));
});

test.serial('other programs can connect', async (t) => {
  const path = join(directory, 'interop');
  const recorder = new Recorder();
  const listener = native.listen(path, {}, (socket) => {
    socket.start(vfioUser, recorder);
    socket.send(vfioMessage(9));
  });
  const client = createConnection(path);
  const answer = await new Promise<Buffer>((resolve) => client.once('data', resolve));
  t.deepEqual(answer, vfioMessage(9));
  client.end(vfioMessage(3));
  t.is(await recorder.end(), 'EOF');
  t.deepEqual(recorder.ids(), [3]);
  listener.close();
});
