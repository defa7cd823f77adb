import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NetEcho } from '../../backends/net-echo.js';
import { PollLoop } from '../../guest/poll-loop.js';
import { formatUuid } from '../../device/identity.js';
import { VvuError } from '../../errors.js';
import { VhostUserBackend } from '../../guest/backend.js';
import { VvuDriver } from '../../guest/driver.js';
import { VfioUserPciAccess } from '../../guest/vfio-user-access.js';
import { Cleanup } from '../../hosts/cleanup.js';
import type { Layout } from '../../hosts/layout.js';
import type { Logger } from '../../log.js';
import { formatSize } from '../parse.js';
import { DeviceProcess } from './device-process.js';
import type { DemoFrontend, DemoTraffic } from './frontend.js';
import { TunnelObserver } from './observer.js';

export interface DemoOptions {
  readonly layout: Layout;
  /** Queue pairs. */
  readonly queues: number;
  readonly milliseconds: number;
  readonly frontend: (socket: string, queues: number) => DemoFrontend;
  readonly logger: Logger;
  readonly print: (line: string) => void;
}

const WINDOW_BYTES = 2 ** 30;

/**
 * The main job in one go: a device, a poll-mode backend behind it, a frontend in front of it, and
 * packets through all of them. Leaves nothing behind, whatever happens.
 * @throws when any part fails, or when a packet is lost
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const cleanup = new Cleanup();
  try {
    await demonstrate(options, cleanup);
  } finally {
    await cleanup.run();
  }
}

async function demonstrate(options: DemoOptions, cleanup: Cleanup): Promise<void> {
  const { print, queues, layout } = options;
  const directory = mkdtempSync(join(tmpdir(), 'vvu-demo-'));
  cleanup.defer(() => rmSync(directory, { recursive: true }));
  const sockets = { vfio: join(directory, 'vfio-user'), vhost: join(directory, 'vhost-user') };

  const device = await startDevice(sockets, layout, cleanup);
  print(`device    vvu device (pid ${device.pid}), layout ${layout}`);
  print(`          vfio-user  ${sockets.vfio}`);
  print(`          vhost-user ${sockets.vhost}`);

  const { driver, echo, loop, observer } = await startBackend(sockets.vfio, options, cleanup);
  print(`backend   virtio-net echo over vfio-user, poll mode, uuid ${formatUuid(driver.uuid)}`);
  print(`          window of ${formatSize(driver.window.size)}, ${driver.maxVhostQueues} vrings`);

  const frontend = options.frontend(sockets.vhost, queues);
  print(`frontend  ${frontend.name}, ${queues} queue pair(s)`);
  print('\nmessages (-> to the backend in the guest, <- its replies)');
  cleanup.defer(() => frontend.stop());
  const traffic = await withLoop(loop, async () => {
    await frontend.start();
    printState(observer, print);
    print(`\ntraffic   ${options.milliseconds / 1000} s ...`);
    return frontend.run(options.milliseconds);
  });
  report(traffic, echo, print);
  print('\nshutdown');
  await withLoop(loop, () => frontend.stop());
  await withLoop(loop, () => untilDisconnected(driver));
}

async function startDevice(
  sockets: { vfio: string; vhost: string },
  layout: Layout,
  cleanup: Cleanup,
): Promise<DeviceProcess> {
  const device = await DeviceProcess.start([
    ...['--vfio-user', sockets.vfio, '--vhost-user', sockets.vhost],
    ...['--layout', layout, '--window', `size=${formatSize(WINDOW_BYTES)}`],
  ]);
  cleanup.defer(async () => {
    const status = await device.stop();
    if (status !== 0) {
      throw new VvuError('DEVICE_FAILED', 'bug', `the device ended with ${status}: ${device.log}`);
    }
  });
  return device;
}

async function startBackend(path: string, options: DemoOptions, cleanup: Cleanup) {
  const { logger } = options;
  const access = await VfioUserPciAccess.connect(path, { logger });
  cleanup.defer(() => access.close());
  const driver = new VvuDriver(access, { logger });
  cleanup.defer(() => driver.close());
  // Listens before the backend does, so that a request is printed before the reply to it.
  const observer = new TunnelObserver(driver, driver.window, options.print);
  const echo = new NetEcho(options.queues);
  new VhostUserBackend(driver, echo, { logger });
  driver.start();
  const loop = new PollLoop([driver, echo]);
  // Whoever waits for the loop gets its error; this only keeps it from counting as unhandled.
  loop.ended.catch(() => undefined);
  cleanup.defer(() => loop.stop());
  return { driver, echo, loop, observer };
}

/** Runs `work`, and fails with the loop's error if the loop ends before it. */
function withLoop<T>(loop: PollLoop, work: () => Promise<T>): Promise<T> {
  const ended = loop.ended.then(() => {
    throw new VvuError('BACKEND_ENDED', 'bug', 'the backend ended');
  });
  return Promise.race([work(), ended]);
}

async function untilDisconnected(driver: VvuDriver): Promise<void> {
  const deadline = performance.now() + 5000;
  while (driver.connected) {
    if (performance.now() > deadline) {
      throw new VvuError('STILL_CONNECTED', 'bug', 'the frontend ended and the device kept it');
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function printState(observer: TunnelObserver, print: (line: string) => void): void {
  print('\nmemory (frontend -> window)');
  for (const { guestAddress, size, windowOffset, mapped } of observer.regions) {
    const how = mapped ? 'mapped: plain loads and stores' : 'trapped: one message per access';
    print(
      `  guest 0x${guestAddress.toString(16)} + ${formatSize(Number(size))} ` +
        `at window offset 0x${windowOffset.toString(16)}, ${how}`,
    );
  }
  const vrings = (kind: 'kick' | 'call' | 'err') => observer.bound(kind).join(', ') || 'none';
  print('\neventfds');
  print(`  doorbells bound to call eventfds of vrings: ${vrings('call')}`);
  print(`  doorbells bound to err eventfds of vrings:  ${vrings('err')}`);
  print(`  kick eventfds bound for vrings:             ${vrings('kick')} (polled by this backend)`);
}

function report(traffic: DemoTraffic, echo: NetEcho, print: (line: string) => void): void {
  const { sent, received, lost, seconds } = traffic;
  const rate = Math.round(received / seconds);
  print(`  sent ${sent}, returned ${received}, lost ${lost}`);
  print(`  ${rate.toLocaleString('en')} packets/s through the echo and back`);
  echo.counters.forEach(({ packets, bytes }, pair) => {
    print(`  queue pair ${pair}: ${packets} packets, ${bytes} bytes echoed`);
  });
  if (sent === 0 || lost !== 0) {
    throw new VvuError('PACKETS_LOST', 'bug', `${lost} of ${sent} packets were lost`);
  }
}
