import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { startEchoBackend } from '../support/echo-backend.js';
import { until } from '../support/until.js';
import { DeviceProcess, type DeviceProcessOptions } from '../vm/device-process.js';

/* Who comes, leaves and dies in which order; each failure of the reference device among them. */

async function startDevice(
  t: ExecutionContext,
  options: Partial<DeviceProcessOptions> = {},
): Promise<DeviceProcess> {
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M', ...options });
  t.teardown(() => device.close());
  return device;
}

async function startBackend(t: ExecutionContext, device: DeviceProcess, regionRemap = true) {
  const backend = await startEchoBackend(device.vfioUser, { regionRemap });
  t.teardown(() => backend.stop());
  return backend;
}

/** A frontend that notes the end of its connection. */
function connect(t: ExecutionContext, path: string) {
  const state = { closed: '' };
  const frontend = NetFrontend.connect(path, { onClosed: (code) => (state.closed = code) });
  t.teardown(() => frontend.close());
  return { frontend, state };
}

async function echoes(t: ExecutionContext, frontend: NetFrontend, packets = 200): Promise<void> {
  const { sent, received } = await runTraffic(frontend, { packets });
  t.is(received, sent);
}

test('a frontend that comes before the backend waits for it', async (t) => {
  const device = await startDevice(t);
  const { frontend } = connect(t, device.vhostUser);
  const started = frontend.start();
  await sleep(200);
  await startBackend(t, device);
  await started;
  await echoes(t, frontend);
});

test('the backend stays while frontends come and go, without growth', async (t) => {
  const device = await startDevice(t);
  const backend = await startBackend(t, device);
  const idle = device.descriptors;
  for (let round = 0; round < 20; round++) {
    const { frontend } = connect(t, device.vhostUser);
    await frontend.start();
    await echoes(t, frontend, 50);
    // Every other frontend just dies.
    if (round % 2 === 0) await frontend.stop();
    frontend.close();
    await until(() => !backend.driver.connected, 'the end of the connection');
    await until(() => device.descriptors === idle, `${idle} open fds`);
  }
});

test('a frontend is told when the backend process is gone', async (t) => {
  const device = await startDevice(t);
  const backend = await startBackend(t, device);
  const { frontend, state } = connect(t, device.vhostUser);
  await frontend.start();
  backend.access.close();
  await until(() => state.closed !== '', 'the disconnect');
  await backend.stop();
  // And the next backend serves the next frontend.
  await startBackend(t, device);
  const next = connect(t, device.vhostUser);
  await next.frontend.start();
  await echoes(t, next.frontend);
});

test('a frontend is told when the driver resets the device', async (t) => {
  const device = await startDevice(t);
  const backend = await startBackend(t, device);
  const { frontend, state } = connect(t, device.vhostUser);
  await frontend.start();
  backend.driver.close();
  await until(() => state.closed !== '', 'the disconnect');
  t.pass();
});

test('a driver that drops its frontend serves the next one', async (t) => {
  const device = await startDevice(t);
  const backend = await startBackend(t, device);
  const { frontend, state } = connect(t, device.vhostUser);
  await frontend.start();
  backend.driver.dropFrontend('a test');
  await until(() => state.closed !== '', 'the disconnect');
  const next = connect(t, device.vhostUser);
  await next.frontend.start();
  await echoes(t, next.frontend);
});

test('a second frontend is closed and the first one goes on', async (t) => {
  const device = await startDevice(t);
  await startBackend(t, device);
  const { frontend } = connect(t, device.vhostUser);
  await frontend.start();
  const second = connect(t, device.vhostUser);
  await until(() => second.state.closed !== '', 'the refusal');
  await echoes(t, frontend);
  t.regex(device.log, /second frontend refused/);
});

test('a second vfio-user client is closed and the first one goes on', async (t) => {
  const device = await startDevice(t);
  await startBackend(t, device);
  await t.throwsAsync(VfioUserPciAccess.connect(device.vfioUser));
  const { frontend } = connect(t, device.vhostUser);
  await frontend.start();
  await echoes(t, frontend);
  t.regex(device.log, /second client refused/);
});

for (const regionRemap of [true, false]) {
  const kind = regionRemap ? 'mapped' : 'trapped';
  test(`a dead frontend's memory is not visible any more (${kind})`, async (t) => {
    const device = await startDevice(t);
    const backend = await startBackend(t, device, regionRemap);
    const { frontend } = connect(t, device.vhostUser);
    await frontend.start();
    await echoes(t, frontend);
    const { memory } = backend.driver.window;
    const zeros = Buffer.alloc(4096);
    t.notDeepEqual(memory.read(0, 4096), zeros, 'the rings are at the start of its memory');
    frontend.close();
    await until(() => !backend.driver.connected, 'the end of the connection');
    await until(() => memory.read(0, 4096).equals(zeros), 'the revocation');
    t.pass();
  });
}

test('a driver that writes unknown status bits finds NEEDS_RESET, and recovers', async (t) => {
  const device = await startDevice(t);
  const backend = await startBackend(t, device);
  const { frontend, state } = connect(t, device.vhostUser);
  await frontend.start();
  // Device configuration is at 8 KiB of BAR 0, and its status register comes first.
  backend.access.barWrite(0, 8192, Buffer.from([0x80, 0, 0, 0]));
  await until(() => state.closed !== '', 'the disconnect');
  const next = connect(t, device.vhostUser);
  await next.frontend.start();
  await echoes(t, next.frontend);
  t.regex(device.log, /unknown status bits 0x80/);
});

test('client mode: the device finds its frontend, late and again', async (t) => {
  const device = await startDevice(t, { args: ['--vhost-user-mode', 'client'] });
  const backend = await startBackend(t, device);
  await sleep(150);
  for (let round = 0; round < 3; round++) {
    const frontend = await NetFrontend.accept(device.vhostUser);
    t.teardown(() => frontend.close());
    await frontend.start();
    await echoes(t, frontend);
    frontend.close();
    await until(() => !backend.driver.connected, 'the end of the connection');
  }
});

test('a device that is stopped removes its sockets and tells both sides', async (t) => {
  const device = await startDevice(t);
  await startBackend(t, device);
  const { frontend, state } = connect(t, device.vhostUser);
  await frontend.start();
  t.is(await device.stop(), 'status 0');
  t.false(device.hasSockets);
  await until(() => state.closed !== '', 'the disconnect');
});
