import test from 'ava';
import { spawn, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../src/native.js';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';

/* Output that nobody takes must not end the devices, and with them the machines they serve. */
const MAIN = join(projectRoot, 'dist/src/cli/main.js');
const full = openSync('/dev/full', 'w');

const CASES: readonly (readonly [name: string, stdio: StdioOptions, args: string[]])[] = [
  ['a full disk for the log', ['ignore', 'ignore', full], []],
  ['a full disk for the JSON log', ['ignore', 'ignore', full], ['--json']],
  ['a full disk for both', ['ignore', full, full], []],
  ['readers that are gone', ['ignore', 'pipe', 'pipe'], ['--json']],
];

/** The file is there a moment before somebody listens. */
function listens(path: string): boolean {
  try {
    native.connect(path).close();
    return true;
  } catch {
    return false;
  }
}

for (const [name, stdio, args] of CASES) {
  test(name, async (t) => {
    const folder = await temporaryFolder('output');
    t.teardown(folder.remove);
    const [vfioUser, vhostUser] = [join(folder.path, 'a'), join(folder.path, 'b')];
    const sockets = ['--vfio-user', vfioUser, '--vhost-user', vhostUser];
    const child = spawn(process.execPath, [MAIN, 'device', ...sockets, ...args], { stdio });
    t.teardown(() => child.kill('SIGKILL'));
    child.stdout?.destroy();
    child.stderr?.destroy();
    const ended = once(child, 'exit');
    await until(() => listens(vfioUser), 'the sockets');
    // Each connection is a line of the log, or two.
    for (let i = 0; i < 5; i++) {
      const socket = native.connect(vfioUser);
      const closed = new Promise((resolve) => {
        const framing = { headerSize: 16, lengthOffset: 4, lengthIncludesHeader: true };
        socket.start(
          { ...framing, maxMessage: 4096, maxFds: 1 },
          { message: () => undefined, closed: resolve },
        );
      });
      socket.send(Buffer.alloc(16));
      t.is(await closed, 'EOF', 'a message that is no message ends the connection');
    }
    t.is(child.exitCode, null);
    child.kill('SIGTERM');
    t.deepEqual(await ended, [0, null]);
    t.false(existsSync(vfioUser) || existsSync(vhostUser));
  });
}
