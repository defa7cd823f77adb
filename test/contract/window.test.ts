import test from 'ava';
import { native } from '../../src/native.js';
import { region, request, table } from '../malformed/vhost-user-inputs.js';
import {
  ADD_MEM_REG,
  REM_MEM_REG,
  ask,
  connectNegotiated,
  filledMemory,
  oneRegion,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';
import { HOSTS } from './hosts.js';
import { bringUp } from './rig.js';

/* The frontend's memory in the window, mapped or trapped: the same bytes at the same places. */
const PAGE = 4096;

for (const host of HOSTS) {
  test.serial(
    `${host.name}: loads and stores of every width reach the frontend's memory`,
    async (t) => {
      const rig = await bringUp(t, host);
      const { guest, window, access, structures } = rig;
      const frontend = await connectNegotiated(t, rig);
      const fd = filledMemory(t, 4 * PAGE, 0x11);
      const memory = native.map(fd, { offset: 0, length: 4 * PAGE, writable: true });
      t.teardown(() => memory.release());
      memory.fill(PAGE, PAGE, 0x22);
      const regions = table(region(0, PAGE, PAGE), region(0x10_0000, PAGE, 0));
      t.is(await ask(guest, frontend, regions, [fd, fd]), 0n);
      t.is(window.mapped(0, 2 * PAGE), host.window === 'mapped');
      t.is(window.memory.read(0, 8).toString('hex'), '22'.repeat(8));
      t.is(window.memory.read(PAGE - 2, 4).toString('hex'), '22221111', 'across two regions');
      for (const width of [1, 2, 4, 8]) {
        const at = 16 * width;
        window.memory.write(at, Buffer.alloc(width, 0xa0 + width));
        t.deepEqual(
          memory.read(PAGE + at, width + 1),
          Buffer.from([...Array<number>(width).fill(0xa0 + width), 0x22]),
        );
        // And as accesses that a VMM traps, which any part of the window may be at any time.
        const { bar, offset } = structures.window!;
        const trapped = access.barRead(bar, offset + at, width);
        t.deepEqual(trapped, Buffer.alloc(width, 0xa0 + width));
        access.barWrite(bar, offset + at, Buffer.alloc(width, 0xb0));
        t.is(memory.read(PAGE + at, 1)[0], 0xb0);
      }
      const { bar, offset } = structures.window!;
      t.is(access.barRead(bar, offset + 2 * PAGE, 4).readUInt32LE(), 0, 'behind the regions');
      access.barWrite(bar, offset + 2 * PAGE, Buffer.alloc(4, 0xff));
      t.is(access.barRead(bar, offset + 2 * PAGE, 4).readUInt32LE(), 0);
      frontend.close();
      await until(() => access.barRead(bar, offset, 4).readUInt32LE() === 0, 'the revocation');
      await until(() => !window.mapped(0, 1), 'an empty window');
    },
  );

  test.serial(`${host.name}: regions come and go, and a bad table changes nothing`, async (t) => {
    const rig = await bringUp(t, host);
    const { guest, access, structures } = rig;
    const { bar, offset } = structures.window!;
    const load = (at: number) => access.barRead(bar, offset + at, 1)[0];
    const frontend = await connectNegotiated(t, rig);
    const fds = [1, 2, 3].map((value) => filledMemory(t, PAGE, value));
    t.is(await ask(guest, frontend, table(region(0, PAGE)), [fds[0]!]), 0n);
    const add = (guestAddress: number, fd: number) =>
      ask(guest, frontend, request(ADD_MEM_REG, oneRegion(region(guestAddress, PAGE))), [fd]);
    t.is(await add(0x10_0000, fds[1]!), 0n);
    t.deepEqual([load(0), load(PAGE)], [1, 2]);
    for (const [bad, given] of [
      [table(region(0, 2 * PAGE)), [fds[2]!]],
      [table(region(0, PAGE), region(0, PAGE)), [fds[2]!, fds[2]!]],
      [table(region(0, 0)), [fds[2]!]],
      [
        table(region(0, PAGE), region(2 ** 40, 128 << 20)),
        [fds[2]!, filledMemory(t, 128 << 20, 0)],
      ],
    ] as const) {
      t.is(await ask(guest, frontend, bad, given), 1n);
      t.deepEqual([load(0), load(PAGE)], [1, 2]);
    }
    t.is(await ask(guest, frontend, request(REM_MEM_REG, oneRegion(region(0, PAGE)))), 0n);
    t.deepEqual([load(0), load(PAGE)], [0, 2]);
    t.is(await add(0x20_0000, fds[2]!), 0n);
    t.deepEqual([load(0), load(PAGE)], [3, 2]);
    t.is(await ask(guest, frontend, table(region(0, PAGE)), [fds[0]!]), 0n);
    t.deepEqual([load(0), load(PAGE)], [1, 0]);
  });
}
