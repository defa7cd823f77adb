import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { DeviceProcess } from '../../src/cli/demo/device-process.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import type { BackendDevice, BackendQueue } from '../../src/guest/backend-device.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { native } from '../../src/native.js';
import type { Chain } from '../../src/virtio/split-queue.js';
import { until } from '../support/until.js';
import { InflightFrontend } from './inflight-frontend.js';
import { testDirectory } from './rig.js';

/** A device model of one ring, which the test serves by hand and in any order. */
class ByHand implements BackendDevice {
  readonly features = 0n;
  readonly queueCount = 1;
  readonly queueNum = 1;
  readonly protocolFeatures = 0n;
  queue: BackendQueue | undefined;
  /** Popped and not pushed. */
  readonly held: Chain[] = [];

  constructor(readonly inOrder = false) {}

  featuresAccepted(): void {
    return;
  }

  queueStarted(queue: BackendQueue): void {
    this.queue = queue;
  }

  queueStopped(queue: BackendQueue): void {
    queue.ring.unpop(this.held.length);
    this.held.length = 0;
    this.queue = undefined;
  }

  take(): number[] {
    for (let chain = this.queue?.ring.pop(); chain; chain = this.queue?.ring.pop()) {
      this.held.push(chain);
    }
    return this.held.map(({ head }) => head);
  }

  finish(head: number): void {
    const at = this.held.findIndex((chain) => chain.head === head);
    const [chain] = this.held.splice(at, 1);
    if (chain) this.queue?.ring.push(chain, 0);
    this.queue?.flush();
  }
}

/** A backend on a driver of its own. `die` ends it as the end of its process would. */
async function startBackend(t: ExecutionContext, socket: string, mapped: boolean, inOrder = false) {
  const access = await VfioUserPciAccess.connect(socket, { regionRemap: mapped });
  const driver = new VvuDriver(access);
  const model = new ByHand(inOrder);
  new VhostUserBackend(driver, model);
  driver.start();
  const loop = new PollLoop([driver]);
  loop.ended.catch(() => undefined);
  const die = async (): Promise<void> => {
    await loop.stop().catch(() => undefined);
    access.close();
  };
  t.teardown(die);
  return { model, die };
}

async function start(t: ExecutionContext) {
  const directory = testDirectory(t);
  const vfioUser = join(directory, 'vfio-user');
  const vhostUser = join(directory, 'vhost-user');
  const device = await DeviceProcess.start([
    ...['--vfio-user', vfioUser, '--vhost-user', vhostUser, '--window', 'size=2M'],
  ]);
  t.teardown(() => device.stop());
  const frontend = new InflightFrontend(vhostUser);
  t.teardown(() => frontend.close());
  return { device, vfioUser, frontend };
}

for (const mapped of [true, false]) {
  const how = mapped ? 'mapped' : 'trapped';

  test.serial(`a backend that died lost nothing: the next one finds it, ${how}`, async (t) => {
    const { vfioUser, frontend } = await start(t);
    const first = await startBackend(t, vfioUser, mapped);
    await frontend.start();
    // One split ring of 8 descriptors: 16 + 8 * 16 bytes, rounded up to 64.
    t.is(frontend.inflight?.size, 192n);
    frontend.add('a', 'b', 'c', 'd');
    t.deepEqual(first.model.take(), [0, 1, 2, 3]);
    first.model.finish(2);
    t.deepEqual(frontend.done(), ['c']);
    await first.die();
    await until(() => !frontend.connected, 'the end of the connection');

    frontend.add('e');
    const second = await startBackend(t, vfioUser, mapped);
    await frontend.start();
    await until(() => second.model.queue !== undefined, 'the ring');
    t.deepEqual(second.model.take(), [0, 1, 3, 2], 'in flight in their order, then the new one');
    for (const head of [3, 0, 2, 1]) second.model.finish(head);
    t.deepEqual(frontend.done(), ['d', 'a', 'e', 'b']);
    await second.die();
    await until(() => !frontend.connected, 'the end of the connection');

    frontend.add('f');
    const third = await startBackend(t, vfioUser, mapped);
    await frontend.start();
    await until(() => third.model.queue !== undefined, 'the ring');
    t.is(third.model.take().length, 1, 'nothing is served twice');
  });
}

test.serial("a buffer is a sealed memfd of whole pages at the window's end", async (t) => {
  const { device, vfioUser, frontend } = await start(t);
  const { model, die } = await startBackend(t, vfioUser, true);
  await frontend.start();
  await until(() => model.queue !== undefined, 'the ring');
  const info = native.fdInfo(frontend.inflight!.fd);
  t.is(info.kind, 'file');
  t.is(info.size, 4096);
  t.is(info.seals & 2, 2, 'sealed against shrinking');
  await die();
  await until(() => !frontend.connected, 'the end of the connection');
  t.true(device.log.includes('inflight + 0x1000 at 0x1ff000 (dynamic)'), device.log);
});

test.serial('a backend that uses buffers in order needs no buffer, and offers none', async (t) => {
  const { vfioUser, frontend } = await start(t);
  await startBackend(t, vfioUser, true, true);
  await t.throwsAsync(frontend.start());
  t.is(frontend.inflight, undefined);
});
