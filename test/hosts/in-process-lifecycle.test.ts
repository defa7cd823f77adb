import { existsSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { errorCode } from '../../src/errors.js';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { createVirtioVhostUserDevice } from '../../src/hosts/in-process/index.js';
import { native } from '../../src/native.js';
import { assertEchoes, testDirectory } from '../guest/rig.js';
import { region, table } from '../malformed/vhost-user-inputs.js';
import { MachineAccess } from '../support/machine-access.js';
import { startMachine } from '../support/machine-rig.js';
import { Machine, WINDOW_BYTES } from '../support/machine.js';
import {
  GET_FEATURES,
  ask,
  connectFrontend,
  connectNegotiated,
  ended,
  filledMemory,
  plain,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* Events, accesses, reset and close of a device in this process. */
const PAGE = 4096;
const STATUS = 0x14;

for (const layout of ['split', 'rfc'] as const) {
  for (const vhostUserMode of ['server', 'client'] as const) {
    test(`packets, layout ${layout}, ${vhostUserMode} mode`, async (t) => {
      const path = join(testDirectory(t), 'vhost-user');
      const machine = new Machine(
        path,
        { memory: 'segments', window: 'mapped', interrupts: 'eventfd', doorbells: 'ioeventfd' },
        { layout, vhostUserMode },
      );
      t.teardown(() => machine.close());
      const driver = new VvuDriver(new MachineAccess(machine));
      const echo = new NetEcho(1);
      new VhostUserBackend(driver, echo);
      driver.start();
      const loop = new PollLoop([driver, echo]);
      t.teardown(() => loop.stop());
      for (let generation = 1; generation <= 2; generation++) {
        const frontend = await (vhostUserMode === 'server'
          ? NetFrontend.connect(path)
          : NetFrontend.accept(path));
        await frontend.start();
        await assertEchoes(t, frontend, 200);
        t.true(machine.areas.count > 0);
        frontend.close();
        await until(() => machine.areas.count === 0, 'an empty window');
      }
      t.deepEqual(machine.errors, []);
    });
  }
}

test('events tell what happens, with what they carry', async (t) => {
  const rig = startMachine(t);
  const { machine, guest } = rig;
  const seen: unknown[][] = [];
  for (const name of [
    'frontend-connected',
    'frontend-disconnected',
    'memory-table',
    'needs-reset',
    'error',
  ] as const) {
    machine.device.on(name, (...values: unknown[]) => seen.push([name, ...values]));
  }
  const frontend = await connectNegotiated(t, rig);
  const odd = filledMemory(t, 2 * PAGE, 1);
  const regions = table(region(0x10_0000, PAGE), region(0x20_0000, 100, 8));
  t.is(await ask(guest, frontend, regions, [odd, odd]), 0n);
  guest.txq.availIndex = 999;
  guest.kick(1);
  await ended(frontend);
  const shown = [
    { role: 'memory', guestAddress: 0x10_0000n, length: PAGE, windowOffset: 0, mapped: true },
    { role: 'memory', guestAddress: 0x20_0000n, length: 100, windowOffset: PAGE, mapped: false },
  ];
  const reason = 'queue 1: avail.idx 999 after 3, 0 of 64 in flight';
  t.deepEqual(seen, [
    ['frontend-connected'],
    ['memory-table', shown],
    ['frontend-disconnected', 'BACKEND_DOWN', reason],
    ['needs-reset', reason],
  ]);
  t.true(guest.needsReset);
});

test.serial('a listener that throws does so on its own, and the device goes on', async (t) => {
  const rig = startMachine(t);
  const thrown: unknown[] = [];
  const catcher = (error: unknown) => thrown.push(error);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', catcher);
  rig.machine.device.on('frontend-connected', () => {
    throw new Error('listener');
  });
  const frontend = connectFrontend(t, rig.device);
  t.not(await ask(rig.guest, frontend, plain(GET_FEATURES)), 'dropped');
  process.removeListener('uncaughtException', catcher);
  for (const other of others) process.on('uncaughtException', other);
  t.deepEqual(
    thrown.map((error) => (error as Error).message),
    ['listener'],
  );
});

test('accesses of any length and alignment; those outside read all ones and are told once', (t) => {
  const { machine } = startMachine(t, { window: 'trapped' });
  const { device, errors } = machine;
  const id = Buffer.alloc(4);
  device.configRead(0, id);
  t.is(id.readUInt32LE(0), 0x1058_1af4);
  const three = Buffer.alloc(3);
  device.configRead(1, three);
  t.is(three.toString('hex'), '1a5810');
  const block = Buffer.alloc(64, 0xee);
  device.barRead(0, 0, block);
  t.is(block[STATUS], 0x0f);
  t.deepEqual(errors, []);
  const window = device.bars.find(({ index }) => index === 4);
  t.is(window?.size, WINDOW_BYTES);
  for (const [bar, offset, width, message] of [
    [0, -1, 1, '1 bytes at -1 of BAR 0: it has 16384 bytes'],
    [0, 0.5, 1, undefined],
    [0, Number.NaN, 1, undefined],
    [
      4,
      WINDOW_BYTES - 2,
      4,
      `4 bytes at ${WINDOW_BYTES - 2} of BAR 4: it has ${WINDOW_BYTES} bytes`,
    ],
    [4, 2 ** 53, 4, undefined],
    [3, 0, 4, '4 bytes at 0 of BAR 3: it has 0 bytes'],
    [9, 0, 1, '1 bytes at 0 of BAR 9: it has 0 bytes'],
  ] as const) {
    const target = Buffer.alloc(width);
    device.barRead(bar, offset, target);
    t.true(target.every((byte) => byte === 0xff));
    t.notThrows(() => device.barWrite(bar, offset, target));
    const told = errors.splice(0);
    t.deepEqual(told.map(errorCode), message === undefined ? [] : ['BAD_ACCESS']);
    if (message !== undefined) t.true(told[0]?.message.endsWith(message), told[0]?.message);
  }
  device.configRead(PAGE - 2, id);
  t.is(id.readUInt32LE(0), 0xffff_ffff);
  device.configWrite(PAGE - 2, id);
  t.deepEqual(errors.map(errorCode), ['BAD_ACCESS']);
});

test('a memory accessor that throws is reported, and costs the driver a reset', (t) => {
  const device = createVirtioVhostUserDevice({
    memory: {
      read: () => {
        throw new Error('accessor');
      },
      write: () => false,
    },
    interrupts: { msix: () => undefined, intx: () => undefined },
    window: { size: 1 << 20 },
    vhostUserPath: join(testDirectory(t), 'vhost-user'),
  });
  t.teardown(() => device.close());
  const seen: string[] = [];
  device.on('error', ({ message }) => seen.push(message));
  device.on('needs-reset', (reason) => seen.push(reason));
  const store = (offset: number, width: number, value: number) => {
    const bytes = Buffer.alloc(width);
    bytes.writeUIntLE(value, 0, width);
    device.barWrite(0, offset, bytes);
  };
  for (const status of [1, 3]) store(STATUS, 1, status);
  store(0x08, 4, 1);
  store(0x0c, 4, 1);
  store(STATUS, 1, 0x0b);
  store(0x16, 2, 1);
  for (const [register, value] of [
    [0x20, PAGE],
    [0x28, 2 * PAGE],
    [0x30, 3 * PAGE],
  ] as const) {
    store(register, 4, value);
  }
  store(0x1c, 2, 1);
  store(STATUS, 1, 0x0f);
  store(0x3000 + 4, 2, 1);
  t.true(seen.includes('accessor'));
  t.regex(seen.at(-1) ?? '', /is not mapped/);
  const status = Buffer.alloc(1);
  device.barRead(0, STATUS, status);
  t.is(status[0]! & 0x40, 0x40);
});

test('guest memory whose file shrinks is an error, not a crash', async (t) => {
  const path = join(testDirectory(t), 'ram');
  const fd = native.openFile(path, { writable: true, create: 16 * PAGE });
  const device = createVirtioVhostUserDevice({
    memory: { segments: [{ address: 0, length: 16 * PAGE, fd, fileOffset: 0 }] },
    interrupts: { msix: () => undefined, intx: () => undefined },
    window: { size: 1 << 20 },
    vhostUserPath: join(testDirectory(t), 'vhost-user'),
  });
  t.teardown(() => device.close());
  truncateSync(path, 0);
  native.closeFd(fd);
  const errors: Error[] = [];
  device.on('error', (error) => errors.push(error));
  const store = (offset: number, bytes: number[]) => device.barWrite(0, offset, Buffer.from(bytes));
  for (const status of [1, 3]) store(STATUS, [status]);
  store(0x08, [1, 0, 0, 0]);
  store(0x0c, [1, 0, 0, 0]);
  store(STATUS, [0x0b]);
  store(0x16, [1, 0]);
  for (const register of [0x20, 0x28, 0x30]) store(register, [0, register, 0, 0]);
  store(0x1c, [1, 0]);
  store(STATUS, [0x0f]);
  store(0x3004, [1, 0]);
  await until(() => errors.length > 0, 'the error');
  t.is(errorCode(errors[0]), 'MEMORY_LOST');
});

test('bars-moved: when the guest places BARs, switches decoding, or they go', async (t) => {
  const { machine, access } = startMachine(t);
  const { device } = machine;
  const seen: (bigint | undefined)[] = [];
  device.on('bars-moved', () => seen.push(device.barAddress(1)));
  const place = (address: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(address);
    access.configWrite(0x14, bytes);
  };
  place(0xe000_0000);
  t.deepEqual(seen, [], 'not decoded yet');
  access.configWrite(0x04, Buffer.from([2, 0]));
  access.configWrite(0x04, Buffer.from([6, 0]));
  access.configWrite(0x3c, Buffer.from([11]));
  t.deepEqual(seen, [0xe000_0000n], 'once, not with every write');
  place(0xe010_0000);
  access.reset();
  t.deepEqual(seen.slice(1), [0xe010_0000n, undefined]);
  place(0xd000_0000);
  access.configWrite(0x04, Buffer.from([2, 0]));
  device.reset();
  access.configWrite(0x04, Buffer.from([2, 0]));
  await device.close();
  t.deepEqual(seen.slice(3), [0xd000_0000n, undefined, 0n, undefined]);
});

test('a bus reset is a reset of everything, and the device is as new', async (t) => {
  const rig = startMachine(t);
  const { machine, guest, access } = rig;
  access.enableVector(3);
  access.configWrite(0x04, Buffer.from([6, 0]));
  access.configWrite(0x10, Buffer.from([0, 0, 0, 0xe0]));
  t.is(machine.device.barAddress(0), 0xe000_0000n);
  const frontend = await connectNegotiated(t, rig);
  t.is(await ask(guest, frontend, table(region(0, PAGE)), [filledMemory(t, PAGE, 1)]), 0n);
  machine.device.reset();
  t.is(guest.status, 0);
  t.is(guest.read(1, 16 * 3 + 12, 4), 1, 'vectors are masked');
  t.is(machine.device.barAddress(0), undefined);
  await ended(frontend);
  await until(() => machine.areas.count === 0, 'an empty window');
  guest.start();
  guest.linkStatus = 1;
  const next = await connectNegotiated(t, rig);
  t.is(await ask(guest, next, table(region(0, PAGE)), [filledMemory(t, PAGE, 2)]), 0n);
  t.is(guest.read(4, 0, 4), 0x02020202);
});

test.serial(
  'close: everything is undone, again is the same, and later accesses find nobody',
  async (t) => {
    const fds = () => readdirSync('/proc/self/fd').length;
    const calls: string[] = [];
    const rig = startMachine(t, { interrupts: 'eventfd', doorbells: 'ioeventfd' });
    const { machine, guest, device } = rig;
    const { levels, errors } = machine;
    const frontend = await connectNegotiated(t, rig);
    t.is(await ask(guest, frontend, table(region(0, PAGE)), [filledMemory(t, PAGE, 1)]), 0n);
    machine.device.on('frontend-disconnected', (code) => calls.push(code));
    const open = fds();
    const closing = machine.device.close();
    t.is(machine.device.close(), closing);
    t.true(machine.device.closed);
    await closing;
    await ended(frontend);
    t.true(fds() < open);
    t.is(machine.areas.count, 0);
    t.is(machine.doorbells.size, 0);
    t.is(levels.at(-1), false);
    t.deepEqual(calls, ['BACKEND_DOWN']);
    t.false(existsSync(device.vhostUser));
    t.deepEqual(errors, []);
    t.is(guest.read(0, STATUS, 1), 0xff);
    t.is(guest.read(4, 0, 4), 0xffff_ffff);
    guest.status = 0;
    machine.device.reset();
    t.is(machine.device.barAddress(0), undefined);
    const id = Buffer.alloc(4);
    machine.device.configRead(0, id);
    t.is(id.readUInt32LE(0), 0xffff_ffff);
    t.deepEqual(errors.map(errorCode), ['BAD_ACCESS']);
    t.regex(errors[0]!.message, /the device is closed/);
  },
);
