import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { errorCode } from '../../src/errors.js';
import type { VirtioVhostUserOptions } from '../../src/hosts/in-process/index.js';
import { createVirtioVhostUserDevice } from '../../src/hosts/in-process/index.js';
import { native } from '../../src/native.js';
import { assertEchoes, testDirectory } from '../guest/rig.js';
import { until } from '../support/until.js';
import { Machine } from '../support/machine.js';
import { MachineAccess } from '../support/machine-access.js';

for (const memory of ['segments', 'accessor'] as const) {
  for (const window of ['mapped', 'trapped'] as const) {
    test(`packets are echoed: memory by ${memory}, window ${window}; twice`, async (t) => {
      const path = join(testDirectory(t), 'vhost-user');
      const machine = new Machine(path, { memory, window });
      t.teardown(() => machine.close());
      const shown: boolean[] = [];
      machine.device.on('memory-table', (regions) =>
        shown.push(...regions.map((one) => one.mapped)),
      );
      const seen: string[] = [];
      machine.device.on('frontend-connected', () => seen.push('connected'));
      machine.device.on('frontend-disconnected', () => seen.push('disconnected'));
      const driver = new VvuDriver(new MachineAccess(machine));
      const echo = new NetEcho(1);
      new VhostUserBackend(driver, echo);
      driver.start();
      const loop = new PollLoop([driver, echo]);
      t.teardown(() => loop.stop());
      for (let generation = 0; generation < 2; generation++) {
        const frontend = NetFrontend.connect(path, { queuePairs: 1 });
        await frontend.start();
        await assertEchoes(t, frontend, 200);
        t.is(echo.counters[0]?.packets, 200 * (generation + 1));
        t.is(machine.areas.count > 0, window === 'mapped');
        frontend.close();
        await until(
          () => seen.filter((what) => what === 'disconnected').length === generation + 1,
          'the end of it',
        );
        await until(() => machine.areas.count === 0, 'an empty window');
      }
      t.true(shown.length > 0);
      t.true(shown.every((mapped) => mapped === (window === 'mapped')));
      t.deepEqual(seen, ['connected', 'disconnected', 'connected', 'disconnected']);
    });
  }
}

test('options that cannot be met are refused with a code', (t) => {
  const path = join(testDirectory(t), 'vhost-user');
  const ports = {
    interrupts: { msix: () => undefined, intx: () => undefined },
    window: { size: 1 << 20 },
    vhostUserPath: path,
  };
  const eventfd = native.createEventFd();
  t.teardown(() => native.closeFd(eventfd));
  const segment = { address: 0, length: 4096, fd: eventfd, fileOffset: 0 };
  for (const wrong of [segment, { ...segment, address: -1 }, { ...segment, length: 0 }]) {
    const error = t.throws(() =>
      createVirtioVhostUserDevice({ ...ports, memory: { segments: [wrong] } }),
    );
    t.is(errorCode(error), 'BAD_MEMORY');
  }
  const memory = { read: () => false, write: () => false };
  const error = t.throws(() =>
    createVirtioVhostUserDevice({ ...ports, memory, window: { size: 5000 } }),
  );
  t.is(errorCode(error), 'BAD_WINDOW');
});

test('options of the wrong shape are refused with the name of the option', (t) => {
  const right = {
    memory: { read: () => false, write: () => false },
    interrupts: { msix: () => undefined, intx: () => undefined },
    window: { size: 1 << 20 },
    vhostUserPath: join(testDirectory(t), 'vhost-user'),
  };
  for (const [wrong, name] of [
    [undefined, 'options'],
    [{}, 'memory'],
    [{ ...right, memory: { read: () => false } }, 'memory.write'],
    [{ ...right, memory: { segments: [] } }, 'memory.segments'],
    [{ ...right, memory: { segments: [{ address: 0n }] } }, 'memory.segments.0.address'],
    [{ ...right, interrupts: { msix: 1 } }, 'interrupts.msix'],
    [{ ...right, window: { size: 1 << 20, map: () => undefined } }, 'window'],
    [{ ...right, window: { size: '1M' } }, 'window.size'],
    [{ ...right, window: { size: 1 << 20, timeoutMs: 0 } }, 'window.timeoutMs'],
    [{ ...right, vhostUserPath: '' }, 'vhostUserPath'],
    [{ ...right, maxVhostQueues: 1025 }, 'maxVhostQueues'],
    [{ ...right, pciId: { vendor: 0x1_0000, device: 0 } }, 'pciId.vendor'],
    [{ ...right, socketMode: 0o1000 }, 'socketMode'],
    [{ ...right, queues: 1 }, 'options'],
  ] as const) {
    const error = t.throws(() =>
      createVirtioVhostUserDevice(wrong as unknown as VirtioVhostUserOptions),
    );
    t.is(errorCode(error), 'BAD_OPTIONS');
    t.true(error.message.includes(name), `${error.message}: ${name}`);
  }
});

test('socket permissions and PCI ids are as asked for', async (t) => {
  const path = join(testDirectory(t), 'vhost-user');
  const device = createVirtioVhostUserDevice({
    memory: { read: () => false, write: () => false },
    interrupts: { msix: () => undefined, intx: () => undefined },
    window: { size: 1 << 20 },
    layout: 'rfc',
    vhostUserPath: path,
    socketMode: 0o640,
    socketGid: 4,
    pciId: { vendor: 0x1234, device: 0x5678 },
  });
  t.teardown(() => device.close());
  const socket = statSync(path);
  t.is(socket.mode & 0o777, 0o640);
  t.is(socket.gid, 4);
  const id = Buffer.alloc(4);
  device.configRead(0, id);
  t.is(id.readUInt32LE(0), 0x5678_1234);
  t.is(device.window.bar, 2);
  t.is(device.window.size, 1 << 20);
  t.true(device.window.offset > 0);
  await device.close();
  t.false(existsSync(path));
});
