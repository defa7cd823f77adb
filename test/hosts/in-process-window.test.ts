import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../../src/errors.js';
import type { WindowPort } from '../../src/hosts/in-process/index.js';
import { native } from '../../src/native.js';
import { region, request, table } from '../malformed/vhost-user-inputs.js';
import { startMachine, type MachineRig } from '../support/machine-rig.js';
import {
  REM_MEM_REG,
  ask,
  connectNegotiated,
  filledMemory,
  oneRegion,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* The window port of a hypervisor that is slow, fails, or never answers. */
const WINDOW = 4;
const PAGE = 4096;
const SIZE = 1 << 20;

type Call = readonly ['map' | 'unmap', number, number];

/** A window that notes what is mapped where; `on` decides how a call goes. */
class NotedWindow implements WindowPort {
  readonly size = SIZE;
  readonly timeoutMs = 300;
  readonly calls: Call[] = [];
  /** Window offset to inode of the file. */
  readonly mapped = new Map<number, bigint>();
  on: (call: Call) => Promise<void> | void = () => undefined;

  async map(fd: number, _fdOffset: number, offset: number, length: number): Promise<void> {
    const call = ['map', offset, length] as const;
    this.calls.push(call);
    await this.on(call);
    if (this.mapped.has(offset)) throw new Error(`${offset} is mapped already`);
    // The fd must still be the file it was, however late this is.
    this.mapped.set(offset, native.fdInfo(fd).ino);
  }

  async unmap(offset: number, length: number): Promise<void> {
    const call = ['unmap', offset, length] as const;
    this.calls.push(call);
    await this.on(call);
    if (!this.mapped.delete(offset)) throw new Error(`${offset} is not mapped`);
  }
}

function start(t: ExecutionContext): MachineRig & { readonly window: NotedWindow } {
  const window = new NotedWindow();
  return { ...startMachine(t, {}, { window }), window };
}

const page = (t: ExecutionContext, value: number): number => filledMemory(t, PAGE, value);
const twoPages = (first: number): Buffer => table(region(first, PAGE), region(2 * SIZE, PAGE));

test('asynchronous map and unmap: the answer comes when the guest sees the memory', async (t) => {
  const rig = start(t);
  const { guest, window } = rig;
  window.on = () => sleep(20);
  const frontend = await connectNegotiated(t, rig);
  const fds = [page(t, 1), page(t, 2)];
  t.is(await ask(guest, frontend, twoPages(0), fds), 0n);
  t.deepEqual(
    [...window.mapped],
    fds.map((fd, i) => [i * PAGE, native.fdInfo(fd).ino]),
  );
  t.is(guest.read(WINDOW, PAGE, 4), 0x02020202, 'mapped regions are served too');
  const remove = request(REM_MEM_REG, oneRegion(region(0, PAGE)));
  t.is(await ask(guest, frontend, remove), 0n);
  t.deepEqual([...window.mapped.keys()], [PAGE]);
  frontend.close();
  await until(() => window.mapped.size === 0, 'an empty window');
  t.deepEqual(rig.machine.errors, []);
});

test('a map that fails is rolled back: the table that was in force is shown again', async (t) => {
  const rig = start(t);
  const { guest, window, machine } = rig;
  const frontend = await connectNegotiated(t, rig);
  const old = page(t, 0x11);
  t.is(await ask(guest, frontend, table(region(0, PAGE)), [old]), 0n);
  const before = [...window.mapped];
  window.calls.length = 0;
  for (const fail of [
    () => Promise.reject(new Error('full')),
    () => {
      throw new Error('full');
    },
  ]) {
    let maps = 0;
    window.on = ([what]) => (what === 'map' && ++maps === 2 ? fail() : undefined);
    t.is(await ask(guest, frontend, twoPages(SIZE), [page(t, 2), page(t, 3)]), 1n);
    t.deepEqual([...window.mapped], before);
    t.is(guest.read(WINDOW, 0, 4), 0x11111111);
    t.deepEqual(
      window.calls.splice(0).map(([what, offset]) => [what, offset]),
      [
        ['unmap', 0],
        ['map', 0],
        ['map', PAGE],
        ['unmap', 0],
        ['map', 0],
      ],
    );
  }
  t.deepEqual(
    machine.errors.map(({ message }) => message),
    ['full', 'full'],
  );
  window.on = () => undefined;
  t.is(await ask(guest, frontend, twoPages(SIZE), [page(t, 2), page(t, 3)]), 0n);
});

test('an unmap that fails is tried again, and nothing is mapped over it meanwhile', async (t) => {
  const rig = start(t);
  const { guest, window, machine } = rig;
  window.on = ([what]) => (what === 'unmap' ? Promise.reject(new Error('busy')) : undefined);
  const first = await connectNegotiated(t, rig);
  t.is(await ask(guest, first, twoPages(0), [page(t, 1), page(t, 2)]), 0n);
  first.close();
  await until(() => guest.linkStatus === 0, 'the end of the connection');
  await until(() => machine.errors.length === 2, 'both failures');
  t.is(guest.read(WINDOW, 0, 4), 0, 'what is trapped shows nothing any more');
  t.is(window.mapped.size, 2);
  // One of the two goes: it must not come back, when the other fails once more.
  window.on = ([what, at]) =>
    what === 'unmap' && at === 0 ? Promise.reject(new Error('busy')) : undefined;
  guest.linkStatus = 1;
  const second = await connectNegotiated(t, rig);
  const fd = page(t, 3);
  t.is(await ask(guest, second, table(region(0, PAGE)), [fd]), 1n);
  t.deepEqual([...window.mapped.keys()], [0]);
  window.on = () => undefined;
  t.is(await ask(guest, second, table(region(0, PAGE)), [fd]), 0n);
  t.deepEqual([...window.mapped], [[0, native.fdInfo(fd).ino]]);
});

test('a map that never ends is given up; when it ends after all it is undone', async (t) => {
  const rig = start(t);
  const { guest, window, machine } = rig;
  let end = (): void => undefined;
  window.on = () => new Promise((resolve) => (end = resolve));
  const frontend = await connectNegotiated(t, rig);
  const fd = page(t, 1);
  t.is(await ask(guest, frontend, table(region(0, PAGE)), [fd]), 1n);
  t.deepEqual(machine.errors.map(errorCode), ['PORT_TIMEOUT']);
  t.regex(machine.errors[0]!.message, /map of 4096 bytes at 0 has not ended after 300 ms/);
  // Nobody knows what it still does: nothing else is mapped.
  window.on = () => undefined;
  t.is(await ask(guest, frontend, table(region(0, PAGE)), [fd]), 1n);
  t.is(window.calls.length, 1);
  end();
  await until(() => window.calls.length === 2, 'the unmap');
  await until(() => window.mapped.size === 0, 'an empty window');
  t.is(await ask(guest, frontend, table(region(0, PAGE)), [fd]), 0n);
  t.is(window.mapped.get(0), native.fdInfo(fd).ino);
  t.is(machine.errors.length, 1);
});

test('close does not wait for a map or an unmap that never ends, and says so', async (t) => {
  for (const hanging of ['map', 'unmap'] as const) {
    const rig = start(t);
    const { guest, window, machine } = rig;
    let end = (): void => undefined;
    window.on = ([what]) =>
      what === hanging ? new Promise((resolve) => (end = resolve)) : undefined;
    const frontend = await connectNegotiated(t, rig);
    const shown = ask(guest, frontend, table(region(0, PAGE)), [page(t, 1)]);
    await until(() => window.calls.length === 1, 'the map');
    if (hanging === 'unmap') t.is(await shown, 0n);
    const closing = machine.device.close();
    if (hanging === 'map') {
      await closing;
      t.is(await shown, 'dropped');
    } else {
      const error = await t.throwsAsync(closing);
      t.regex(errorCode((error as AggregateError).errors[0]), /^PORT_(TIMEOUT|STUCK)$/);
    }
    t.is(frontend.closed, 'EOF');
    t.deepEqual(machine.errors.map(errorCode), ['PORT_TIMEOUT']);
    end();
    await until(() => window.mapped.size === 0, 'what came late is undone');
    // Closed it is; the teardown would see the failure again.
    machine.device.close = () => Promise.resolve();
  }
});
