import test, { type ExecutionContext } from 'ava';
import { rmSync } from 'node:fs';
import { NetFrontend, type FrontendOptions } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import { startEchoBackend, type EchoBackend } from '../support/echo-backend.js';
import { DeviceProcess } from '../vm/device-process.js';

/*
 * The built-in frontend and the echo backend around a `vvu device` process: every layout, every kind
 * of window, one and four queue pairs.
 */
type Layout = 'split' | 'rfc';

async function start(
  t: ExecutionContext,
  layout: Layout,
  window: string,
  regionRemap: boolean,
  queuePairs = 1,
): Promise<{ device: DeviceProcess; backend: EchoBackend }> {
  const device = await DeviceProcess.start({ layout, window });
  t.teardown(() => device.close());
  const backend = await startEchoBackend(device.vfioUser, { regionRemap, queuePairs });
  t.teardown(() => backend.stop());
  return { device, backend };
}

async function echo(t: ExecutionContext, path: string, options: FrontendOptions): Promise<void> {
  const frontend = NetFrontend.connect(path, options);
  t.teardown(() => frontend.close());
  await frontend.start();
  const { sent, received } = await runTraffic(frontend, { packets: 1000, packetSize: 200 });
  t.is(sent, 1000 * (options.queuePairs ?? 1));
  t.is(received, sent);
  const { reordered, corrupt } = frontend.totals;
  t.is(reordered, 0);
  t.is(corrupt, 0);
  for (const base of await frontend.stop()) t.true(base > 0);
  frontend.close();
}

for (const layout of ['split', 'rfc'] as const) {
  for (const queuePairs of [1, 4]) {
    const what = `${layout}, ${queuePairs} queue pairs`;

    test(`${what}, window mapped at run time`, async (t) => {
      const { device, backend } = await start(t, layout, 'size=64M', true, queuePairs);
      await echo(t, device.vhostUser, { queuePairs });
      t.is(backend.echo.counters.length, queuePairs);
    });

    test(`${what}, window trapped`, async (t) => {
      const { device } = await start(t, layout, 'size=64M', false, queuePairs);
      await echo(t, device.vhostUser, { queuePairs });
    });

    test(`${what}, window is a preset file`, async (t) => {
      const path = `/dev/shm/vvu-preset-${process.pid}-${layout}-${queuePairs}`;
      t.teardown(() => rmSync(path, { force: true }));
      const window = `path=${path},size=16M`;
      const { device, backend } = await start(t, layout, window, false, queuePairs);
      await echo(t, device.vhostUser, { queuePairs, ram: { path }, ramBytes: 16 * 2 ** 20 });
      t.true(backend.driver.window.mapped(0, 4096));
    });
  }
}

test('a memory of several regions, as a table and one by one', async (t) => {
  const { device } = await start(t, 'split', 'size=64M', true);
  await echo(t, device.vhostUser, { ram: { regions: 2 } });
  const slots = 1n << 15n;
  await echo(t, device.vhostUser, { ram: { regions: 2 }, withoutProtocolFeatures: slots });
});

test('a frontend without protocol features', async (t) => {
  const { device } = await start(t, 'split', 'size=64M', true);
  await echo(t, device.vhostUser, { withoutFeatures: 1n << 30n });
});
