import test from 'ava';
import { HOSTS } from './hosts.js';
import { bringUp, load, store } from './rig.js';

/* Accesses that no good driver makes: served, or refused with all ones and without effect. */
const COMMON = 64;

for (const host of HOSTS) {
  test.serial(`${host.name}: any width and alignment within a BAR`, async (t) => {
    const rig = await bringUp(t, host);
    const bytes = Array.from({ length: COMMON }, (_, at) => load(rig, 0, at, 1)).join('');
    for (const width of [2, 3, 4, 5, 7, 8, 16, 61]) {
      for (const at of [0, 1, 2, 3, 5, COMMON - width]) {
        if (at + width > COMMON) continue;
        t.is(load(rig, 0, at, width), bytes.slice(2 * at, 2 * (at + width)), `${width} at ${at}`);
      }
    }
    // Across the end of a structure: what means nothing reads 0.
    t.is(load(rig, 0, 0x2000 + 20, 8).slice(8), '00000000');
    t.is(load(rig, 0, 0x800, 8), '00'.repeat(8));
    store(rig, 0, 0x7ff, 'ffffff');
    t.is(rig.guest.status, 0x0f);
  });

  test.serial(
    `${host.name}: accesses outside read all ones, write nothing, and harm nothing`,
    async (t) => {
      const rig = await bringUp(t, host);
      const { access } = rig;
      for (const [bar, offset, width] of [
        [0, access.barSize(0), 1],
        [0, access.barSize(0) - 2, 4],
        [1, access.barSize(1) - 1, 8],
        [2, access.barSize(2) - 4, 8],
        [2, access.barSize(2), 4],
        [2, 2 ** 40, 4],
        [3, 0, 4],
        [5, 0, 1],
      ] as const) {
        t.is(load(rig, bar, offset, width), 'ff'.repeat(width), `BAR ${bar} + ${offset}`);
        store(rig, bar, offset, '00'.repeat(width));
      }
      t.is(rig.guest.status, 0x0f);
      t.is(rig.guest.linkStatus, 1);
      t.is(access.configRead(0, 4).readUInt32LE(), 0x1058_1af4);
    },
  );

  test.serial(`${host.name}: what is read-only stays`, async (t) => {
    const rig = await bringUp(t, host);
    const { access, guest } = rig;
    const before = access.configRead(0, 0x40);
    for (const at of [0, 2, 8, 0x0e, 0x2c, 0x34, 0x3d]) access.configWrite(at, Buffer.from([0xff]));
    const after = access.configRead(0, 0x40);
    t.deepEqual(after, before);
    guest.write(0, 0x12, 2, 9);
    t.is(guest.read(0, 0x12, 2), 2, 'num_queues');
    guest.write(0, 0x2004, 4, 9);
    t.is(guest.read(0, 0x2004, 4), 256, 'max_vhost_queues');
    t.is(access.configRead(0x800, 4).readUInt32LE(), 0, 'extended configuration space');
    t.false(guest.needsReset);
  });
}
