import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { NetEcho } from '../../src/backends/net-echo.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { native } from '../../src/native.js';
import { until } from '../support/until.js';
import { assertEchoes, openFds, startRig } from './rig.js';

test.serial(
  'frontends come and go, with and without a word, and leave nothing behind',
  async (t) => {
    const { connect, driver, process: device } = await startRig(t);
    const round = async (polite: boolean): Promise<void> => {
      const frontend = connect({ ram: { regions: 2 } });
      await frontend.start();
      await assertEchoes(t, frontend, 200);
      if (polite) await frontend.stop();
      frontend.close();
      await until(() => !driver.connected, 'the driver sees the frontend leave');
      await until(() => !driver.window.mapped(0, 1), 'the window is empty');
    };
    await round(true);
    await round(false);
    await sleep(50);
    const fds = [openFds(process.pid), openFds(device.pid)];
    for (let i = 0; i < 10; i++) await round(i % 2 === 0);
    await sleep(50);
    t.deepEqual([openFds(process.pid), openFds(device.pid)], fds);
  },
);

test.serial(
  'a frontend that leaves in the middle of traffic does not disturb the backend',
  async (t) => {
    const { connect, driver, backend } = await startRig(t);
    for (let i = 0; i < 3; i++) {
      const frontend = connect();
      await frontend.start();
      for (const pair of frontend.pairs) pair.send(128);
      frontend.close();
      await until(() => !driver.connected, 'the driver sees the frontend leave');
      t.deepEqual(backend.running, []);
    }
    const frontend = connect();
    await frontend.start();
    await assertEchoes(t, frontend, 500);
  },
);

test.serial('a frontend that corrupts its ring loses only its ring', async (t) => {
  const { connect, echo } = await startRig(t, { queuePairs: 2 });
  const frontend = connect();
  await frontend.start();
  await assertEchoes(t, frontend, 100);
  // Every descriptor of the first transmitq names an address that is in no region.
  const { config } = frontend.pairs[0]!.transmit;
  const ram = frontend.guestMemory;
  for (let i = 0; i < 256; i++) ram.write(config.descriptorArea + 16 * i, Buffer.alloc(8, 0xff));
  ram.storeU16(config.driverArea + 2, ram.loadU16(config.driverArea + 2) + 10);
  await sleep(50);
  const before = echo.counters[1]?.packets ?? 0;
  const second = frontend.pairs[1]!;
  second.send(50);
  await until(
    () => (echo.counters[1]?.packets ?? 0) - before === 50,
    'the other queue pair goes on',
  );
  frontend.close();
  const next = connect();
  await next.start();
  await assertEchoes(t, next, 100);
});

test.serial('the driver restarts while a frontend waits', async (t) => {
  const rig = await startRig(t);
  const first = rig.connect();
  await first.start();
  await assertEchoes(t, first, 100);
  await rig.loop.stop();
  rig.driver.close();
  await until(() => first.closed, 'the frontend is disconnected');
  first.close();
  const waiting = rig.connect();
  const driver = new VvuDriver(rig.access);
  const echo = new NetEcho(1);
  new VhostUserBackend(driver, echo);
  driver.start();
  const loop = new PollLoop([driver, echo]);
  t.teardown(() => loop.stop());
  await waiting.start();
  await assertEchoes(t, waiting, 100);
});

test.serial('another client takes the device over after the first one left', async (t) => {
  const rig = await startRig(t);
  const frontend = rig.connect();
  await frontend.start();
  await rig.loop.stop();
  rig.access.close();
  await until(() => frontend.closed, 'the frontend is disconnected');
  const access = await VfioUserPciAccess.connect(rig.vfioUser);
  t.teardown(() => access.close());
  const driver = new VvuDriver(access);
  const echo = new NetEcho(1);
  new VhostUserBackend(driver, echo);
  driver.start();
  const loop = new PollLoop([driver, echo]);
  t.teardown(() => loop.stop());
  const next = rig.connect();
  await next.start();
  await assertEchoes(t, next, 100);
});

test.serial('a device that dies ends the loop with an error', async (t) => {
  const rig = await startRig(t);
  const frontend = rig.connect();
  await frontend.start();
  process.kill(rig.process.pid, 'SIGKILL');
  const error = await t.throwsAsync(rig.loop.ended);
  t.is((error as Error & { code?: string }).code, 'ENOTCONN');
  t.notThrows(() => rig.access.close());
});

test.serial('with interrupts the backend sleeps until there is something to do', async (t) => {
  const rig = await startRig(t, { driver: { interrupts: true, statusIntervalMs: 1e9 } });
  await rig.loop.stop();
  const { driver, echo } = rig;
  let wakeups = 0;
  const serve = (): void => {
    do {
      while (driver.poll() + echo.poll() > 0);
    } while (echo.enableKicks());
  };
  const watch = (eventfd: number): void => {
    const handle = native.watchEventFd(eventfd, () => {
      wakeups++;
      driver.expectChange();
      serve();
    });
    t.teardown(() => handle.close());
  };
  watch(driver.interrupt!.eventfd);
  for (const vring of [0, 1]) watch(driver.kick(vring)!.eventfd);
  driver.expectChange();
  serve();
  const frontend = rig.connect();
  await frontend.start();
  await assertEchoes(t, frontend, 2000);
  await sleep(100);
  const idle = wakeups;
  await sleep(200);
  t.is(wakeups, idle, 'no interrupt without a reason');
  await assertEchoes(t, frontend, 10);
  t.true(wakeups > idle);
  frontend.close();
  await until(() => !driver.connected, 'the driver sees the frontend leave');
});

test.serial('calls reach the frontend when it asks for them', async (t) => {
  const { connect, driver } = await startRig(t);
  const frontend = connect();
  await frontend.start();
  await assertEchoes(t, frontend, 100);
  frontend.takeCalls(0);
  const { queue } = frontend.pairs[0]!.receive;
  t.false(queue.enableInterrupts());
  frontend.pairs[0]!.send(1);
  await until(() => frontend.takeCalls(0) > 0, 'the call eventfd of the receiveq is signalled');
  t.true(driver.connected);
});

test.serial('no device on the socket is an error, and nothing stays open', async (t) => {
  const fds = openFds(process.pid);
  await t.throwsAsync(VfioUserPciAccess.connect('/nonexistent/vfio-user'), { code: 'ENOENT' });
  t.is(openFds(process.pid), fds);
});
