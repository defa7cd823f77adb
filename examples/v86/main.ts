/**
 * Boots Linux in v86 with the device plugged in, and sends packets through its guest:
 *
 *     npm run example:v86
 */
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { temporaryFolder } from '../../test/support/temporary.js';
import { v86Image } from '../../test/support/v86-image.js';
import { startPc } from './pc.js';
import { exchange } from './traffic.js';

const PACKETS = 1000;

const started = Date.now();
function log(text: string): void {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

const folder = await temporaryFolder('v86', '/dev/shm');
const socket = join(folder.path, 'frontend.sock');
log('building the guest, or taking it from the cache');
const image = await v86Image();
const lines = new EventEmitter();
const pc = await startPc({
  image,
  socket,
  onLine: (line) => {
    log(`guest: ${line}`);
    lines.emit(line);
  },
});
try {
  const { device } = pc;
  device.on('frontend-connected', () => log('device: frontend connected'));
  device.on('frontend-disconnected', (code) => log(`device: frontend gone (${code})`));
  device.on('needs-reset', (reason) => log(`device: needs a reset: ${reason}`));
  device.on('error', (error) => log(`device: ${error.message}`));
  log('booting');
  await once(lines, 'BACKEND READY');
  for (let visit = 1; visit <= 2; visit++) {
    const ready = once(lines, 'BACKEND READY');
    const { sent, received, corrupt } = await exchange(socket, PACKETS);
    log(`frontend ${visit}: sent ${sent}, received ${received}, corrupt ${corrupt}`);
    if (corrupt !== 0) process.exitCode = 1;
    await ready;
  }
} finally {
  await pc.close();
  await folder.remove();
}
