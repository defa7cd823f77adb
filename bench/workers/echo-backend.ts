/**
 * A backend of its own process, as an appliance VM would be: `echo-backend.js SOCKET remap|trapped`.
 * `go` and `hold` on stdin start and stop its poll loop; it ends with its stdin.
 */
import { createInterface } from 'node:readline';
import { NetEcho } from '../../src/backends/net-echo.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';

const [socket = '', kind] = process.argv.slice(2);
const access = await VfioUserPciAccess.connect(socket, { regionRemap: kind === 'remap' });
const driver = new VvuDriver(access);
const echo = new NetEcho();
new VhostUserBackend(driver, echo);
driver.start();
process.stdout.write('ready\n');

let loop: PollLoop | undefined;
for await (const line of createInterface(process.stdin)) {
  await loop?.stop();
  loop = line === 'go' ? new PollLoop([driver, echo]) : undefined;
  process.stdout.write(`${line}\n`);
}
await loop?.stop();
driver.close();
access.close();
