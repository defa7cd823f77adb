import test from 'ava';
import { listCapabilities } from '../../src/guest/capabilities.js';
import { HOSTS } from './hosts.js';
import { attach } from './rig.js';

/* What a driver finds: the numbers of docs/protocol.md, on every host the same. */
const WINDOW = 64 << 20;
const EXPRESS = 0x10;
const MSIX = 0x11;
const VENDOR = 0x09;
const MEMORY_64_PREFETCHABLE = 0xc;

const LAYOUTS = {
  split: {
    /** By BAR register; a 64-bit BAR takes two. */
    sizes: [0x4000, 0x4000, 0x2000, 0, WINDOW, 0],
    windowBar: 4,
    doorbells: { bar: 2, offset: 0, length: 513 * 4, multiplier: 4 },
    notification: { bar: 2, offset: 0x1000, length: 4, multiplier: 0 },
    window: { bar: 4, offset: 0, length: WINDOW, multiplier: 0 },
  },
  rfc: {
    sizes: [0x8000, 0x4000, 2 * WINDOW, 0, 0, 0],
    windowBar: 2,
    doorbells: { bar: 2, offset: 0, length: 513 * 2, multiplier: 2 },
    notification: { bar: 0, offset: 0x4000, length: 4, multiplier: 0 },
    // A driver takes the length to the BAR's end.
    window: { bar: 2, offset: 0x1000, length: 2 * WINDOW - 0x1000, multiplier: 0 },
  },
};

for (const host of HOSTS) {
  test.serial(`${host.name}: identification, BARs and capabilities`, async (t) => {
    const { access, structures } = await attach(t, host);
    const { sizes, windowBar, doorbells, notification, window } = LAYOUTS[host.layout];
    t.is(access.configRead(0, 4).readUInt32LE(), 0x1058_1af4);
    t.is(access.configRead(8, 4).readUInt32LE(), 0xff00_0001, 'class and revision');
    t.is(access.configRead(0x0e, 1).readUInt8(), 0, 'header type');
    t.is(access.configRead(0x2c, 4).readUInt32LE(), 0x1058_1af4, 'subsystem');
    t.is(access.configRead(0x3d, 1).readUInt8(), 1, 'pin A');

    t.deepEqual(
      sizes.map((_, bar) => access.barSize(bar)),
      sizes,
    );
    // As firmware sizes them: all ones come back as the mask and the type.
    for (const [bar, size] of sizes.entries()) {
      if (bar === windowBar + 1) continue;
      const at = 0x10 + 4 * bar;
      access.configWrite(at, Buffer.alloc(4, 0xff));
      const type = bar === windowBar ? MEMORY_64_PREFETCHABLE : 0;
      const expected = size === 0 ? 0 : (2 ** 32 - size + type) >>> 0;
      t.is(access.configRead(at, 4).readUInt32LE(), expected, `BAR ${bar}`);
      access.configWrite(at, Buffer.alloc(4));
    }

    t.deepEqual(structures, {
      common: { bar: 0, offset: 0, length: 64, multiplier: 0 },
      notify: { bar: 0, offset: 0x3000, length: 8, multiplier: 4 },
      isr: { bar: 0, offset: 0x1000, length: 4, multiplier: 0 },
      device: { bar: 0, offset: 0x2000, length: 24, multiplier: 0 },
      doorbells,
      notification,
      window,
      queueIndices: false,
    });
    const capabilities = listCapabilities(access);
    const find = (id: number) => capabilities.find((one) => one.id === id)!.at;
    t.is(capabilities.filter(({ id }) => id === VENDOR).length, 8, 'types 1 to 8');
    const flr = access.configRead(find(EXPRESS) + 4, 4).readUInt32LE() & (1 << 28);
    t.not(flr, 0, 'function-level reset');
    t.is(access.configRead(find(MSIX) + 2, 2).readUInt16LE() & 0x7ff, 259 - 1, 'vectors');
    t.is(access.vectorCount, 259);
    t.is(access.configRead(find(MSIX) + 4, 4).readUInt32LE(), 1, 'table in BAR 1');
    t.is(access.configRead(find(MSIX) + 8, 4).readUInt32LE(), 0x2001, 'PBA behind it');
  });

  test.serial(`${host.name}: registers after a reset`, async (t) => {
    const { access, guest } = await attach(t, host);
    const features = [0, 1].map((select) => {
      guest.write(0, 0, 4, select);
      return guest.read(0, 4, 4);
    });
    t.deepEqual(features, [(1 << 28) | (1 << 29), 1 | (1 << 1) | (1 << 8)]);
    t.is(guest.read(0, 0x12, 2), 2, 'num_queues');
    for (const queue of [0, 1, 2]) {
      guest.write(0, 0x16, 2, queue);
      t.is(guest.read(0, 0x18, 2), queue < 2 ? 256 : 0, 'queue_size');
      t.is(guest.read(0, 0x1c, 2), 0, 'queue_enable');
    }
    t.is(guest.status, 0);
    t.is(guest.linkStatus, 0);
    t.is(guest.read(0, 0x2004, 4), 256, 'max_vhost_queues');
    const uuid = access.barRead(0, 0x2008, 8).toString('hex');
    t.not(uuid, '00'.repeat(8));
    t.is(access.barRead(0, 0x2008, 8).toString('hex'), uuid);
  });
}
