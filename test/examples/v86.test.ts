import { createConnection } from 'node:net';
import { join } from 'node:path';
import { startPc } from '../../examples/v86/pc.js';
import { exchange } from '../../examples/v86/traffic.js';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { v86Image } from '../support/v86-image.js';

// A hypervisor whose author never heard of the device has it on its PCI bus; Linux in it finds the
// device, and a poll-mode driver in that Linux is the backend of frontends out here.

const { value: image, reason } = await available(v86Image);
const v86Test = declareTests(reason);

const PACKETS = 200;
/** Below ava's limit for a file. The emulator boots in 14 s on an idle machine, longer on a busy one. */
const PATIENCE_MS = 270_000;

v86Test('a guest of v86 serves one frontend after the other', async (t) => {
  t.timeout(PATIENCE_MS);
  const folder = await temporaryFolder('v86-test', '/dev/shm');
  const socket = join(folder.path, 'frontend.sock');
  const lines: string[] = [];
  const events: string[] = [];
  const pc = await startPc({ image: image!, socket, onLine: (line) => lines.push(line) });
  const count = (line: string): number => lines.filter((each) => each === line).length;
  const ready = async (times: number): Promise<void> => {
    const deadline = Date.now() + PATIENCE_MS;
    while (count('BACKEND READY') < times) {
      if (Date.now() > deadline || lines.some((line) => line.startsWith('BACKEND ENDED'))) {
        throw new Error(
          `the backend is not ready, the guest said: ${lines.slice(-20).join(' | ')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  try {
    pc.device.on('needs-reset', (why) => events.push(`needs reset: ${why}`));
    pc.device.on('error', (error) => events.push(`error: ${error.message}`));
    await ready(1);

    for (const [visit, ending] of (['stop', 'drop'] as const).entries()) {
      const totals = await exchange(socket, PACKETS, ending);
      t.is(totals.sent, PACKETS);
      t.is(totals.received, PACKETS);
      t.is(totals.corrupt, 0);
      await ready(visit + 2);
      t.is(count(`frontend gone, echoed ${PACKETS} packets`), visit + 1);
    }

    // No vhost-user message: the device drops its sender, and the guest's backend stays.
    await new Promise<void>((resolve) => {
      const stranger = createConnection(socket, () => stranger.write(Buffer.alloc(64, 0xff)));
      stranger.on('error', () => undefined).once('close', () => resolve());
    });
    await ready(4);
    const { received } = await exchange(socket, PACKETS);
    t.is(received, PACKETS);
    await ready(5);

    t.true(lines.some((line) => /^capability type 8: BAR \d/.test(line)));
    t.is(count('memory table: 1 regions'), 3);
    t.deepEqual(events, []);
  } finally {
    await pc.close();
    await folder.remove();
  }
});
