import { spawn } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { native, type NativeSocket } from '../../src/native.js';
import { temporaryFolder } from '../support/temporary.js';
import { vhostUser } from './helpers.js';

/** How long the peer tries, and how long it leaves the counter full once we wait: milliseconds. */
const TRY = 2500;
const HOLD = 1500;

/**
 * A peer that moves the counter between full and one below, with O_NONBLOCK clear, stops now and
 * then, and stays there when it finds this process asleep. A thread beside it takes 1 where its own
 * write has to wait.
 */
const PEER = `
import os, socket, sys, threading, time
fd = os.eventfd(0, os.EFD_SEMAPHORE)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
socket.send_fds(peer, [bytes(12)], [fd])
peer.recv(1)
os.set_blocking(fd, True)
one = (1).to_bytes(8, sys.byteorder)
os.write(fd, (2**64 - 3).to_bytes(8, sys.byteorder))
busy = True
def rescue():
    while True:
        time.sleep(0.0005)
        if busy: os.read(fd, 8)
threading.Thread(target=rescue, daemon=True).start()
def asleep():
    with open("/proc/%s/task/%s/stat" % (sys.argv[2], sys.argv[2])) as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"
end = time.monotonic() + ${TRY / 1000}
while time.monotonic() < end:
    busy = True
    until = time.monotonic() + 0.003
    while time.monotonic() < until:
        os.read(fd, 8)
        os.write(fd, one)
    busy = False
    time.sleep(0.002)
    if all(time.sleep(0.002) or asleep() for _ in range(5)): time.sleep(${HOLD / 1000})
os.set_blocking(fd, False)
for _ in range(100):
    os.read(fd, 8)
    time.sleep(0.001)
os._exit(0)
`;

test.serial('a peer that fills the counter between two looks at it blocks nobody', async (t) => {
  const folder = await temporaryFolder('eventfd');
  t.teardown(folder.remove);
  const path = join(folder.path, 'socket');
  const connected = new Promise<{ socket: NativeSocket; fd: number }>((resolve) => {
    const listener = native.listen(path, {}, (socket) => {
      listener.close();
      socket.start(vhostUser, {
        message: (_bytes, [fd = -1]) => resolve({ socket, fd }),
        closed: () => undefined,
      });
    });
  });
  const peer = spawn('python3', ['-c', PEER, path, String(process.pid)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  t.teardown(() => peer.kill('SIGKILL'));
  const { socket, fd } = await connected;
  native.checkEventFd(fd);
  socket.send(Buffer.alloc(12));
  let longest = 0;
  const end = performance.now() + TRY;
  for (let now = performance.now(); now < end;) {
    native.signalEventFd(fd);
    const after = performance.now();
    longest = Math.max(longest, after - now);
    now = after;
  }
  socket.close();
  native.closeFd(fd);
  t.true(longest < HOLD - 200, `a signal took ${longest.toFixed(0)} ms`);
});
