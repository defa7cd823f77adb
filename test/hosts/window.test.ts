import test, { type ExecutionContext } from 'ava';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { VfioUserError, type RegionRemapRequest } from 'vfio-ts-bindings';
import { native } from '../../src/native.js';
import { region, request, table } from '../malformed/vhost-user-inputs.js';
import {
  ADD_MEM_REG,
  GET_FEATURES,
  REM_MEM_REG,
  SET_MEM_TABLE,
  ask,
  attach,
  connectNegotiated,
  ended,
  filledMemory,
  oneRegion,
  plain,
  serveGuest,
  startDevice,
  startRawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* What the window shows: preset and foreign regions together, and clients that map it themselves. */
const WINDOW = 4;
const MIB = 2 ** 20;

function presetFile(t: ExecutionContext, name: string): string {
  const path = `/dev/shm/vvu-window-${process.pid}-${name}`;
  t.teardown(() => rmSync(path, { force: true }));
  return path;
}

function openPreset(t: ExecutionContext, path: string): number {
  const fd = native.openFile(path, { writable: true });
  t.teardown(() => native.closeFd(fd));
  return fd;
}

test('one region of the preset file and one of another', async (t) => {
  const path = presetFile(t, 'mix');
  const rig = await startRawRig(t, { window: `path=${path},size=1M,trapped=1M` });
  const { guest } = rig;
  const preset = openPreset(t, path);
  const file = native.map(preset, { offset: 0, length: MIB, writable: true });
  t.teardown(() => file.release());
  file.fill(0, MIB, 0x11);
  const frontend = await connectNegotiated(t, rig);
  const regions = [region(0x40_0000, 8192), region(0, 65536, 65536)];
  frontend.send(table(...regions), [filledMemory(t, 8192, 0x22), preset]);
  let told: Buffer | undefined;
  await until(() => {
    told ??= serveGuest(guest).find((message) => message.readUInt32LE(0) === SET_MEM_TABLE);
    return frontend.received.length > 0;
  }, 'the acknowledgement');
  // By rising offset; size + mmap_offset each, one after the other, gives the places.
  t.is(told?.readBigUInt64LE(20), 0n, 'the preset region comes first');
  t.is(told?.readBigUInt64LE(20 + 24), 65536n);
  t.is(told?.readBigUInt64LE(52), 0x40_0000n);
  t.is(told?.readBigUInt64LE(52 + 24), BigInt(MIB - 2 * 65536));
  t.is(guest.read(WINDOW, 65536, 4), 0x11111111);
  const border = Buffer.from(await guest.client.regionRead(WINDOW, MIB - 2, 4));
  t.is(border.toString('hex'), '11112222');
  await guest.client.regionWrite(WINDOW, MIB - 1, Buffer.from([0xaa, 0xbb]));
  t.is(file.read(MIB - 1, 1)[0], 0xaa);
  t.is(guest.read(WINDOW, MIB, 1), 0xbb);
  frontend.close();
  await until(() => guest.read(WINDOW, MIB, 4) === 0, 'the end of the foreign region');
  t.is(guest.read(WINDOW, 65536, 4), 0x11111111, 'the preset file is the window itself');
});

test('a table that shows bytes of the preset file twice is refused', async (t) => {
  const path = presetFile(t, 'alias');
  const rig = await startRawRig(t, { window: `path=${path},size=1M` });
  const { guest } = rig;
  const preset = openPreset(t, path);
  const frontend = await connectNegotiated(t, rig);
  const twice = table(region(0, 65536), region(MIB, 65536, 4096));
  t.is(await ask(guest, frontend, twice, [preset, preset]), 1n);
  const side = table(region(0, 65536), region(MIB, 65536, 65536));
  t.is(await ask(guest, frontend, side, [preset, preset]), 0n);
  const add = request(ADD_MEM_REG, oneRegion(region(2 * MIB, 4096, 4096)));
  t.is(await ask(guest, frontend, add, [preset]), 1n);
});

test('64 regions come and go one by one', async (t) => {
  const rig = await startRawRig(t);
  const { guest, device } = rig;
  const frontend = await connectNegotiated(t, rig);
  const idle = device.descriptors;
  const one = (slot: number): Buffer => oneRegion(region(slot * MIB, 4096));
  const add = async (slot: number) =>
    ask(guest, frontend, request(ADD_MEM_REG, one(slot)), [filledMemory(t, 4096, slot + 1)]);
  const remove = (slot: number) => ask(guest, frontend, request(REM_MEM_REG, one(slot)));
  for (let round = 0; round < 2; round++) {
    for (let slot = 0; slot < 64; slot++) t.is(await add(slot), 0n);
    t.is(await add(64), 1n, 'the 65th');
    t.is(guest.read(WINDOW, 63 * 4096, 1), 64);
    for (let slot = 0; slot < 64; slot += 2) t.is(await remove(slot), 0n);
    t.is(await remove(0), 1n, 'it is gone already');
    t.is(guest.read(WINDOW, 0, 1), 0);
    t.is(guest.read(WINDOW, 4096, 1), 2);
    for (let slot = 1; slot < 64; slot += 2) t.is(await remove(slot), 0n);
    t.is(device.descriptors, idle);
  }
});

/** A client that maps the window by itself, in the way that the test says. */
function remapping(handler: (request: RegionRemapRequest) => void | Promise<void>) {
  return { client: { regionRemap: handler } };
}

test('a client that refuses to map: the request is refused, and the connection goes on', async (t) => {
  let refuse = true;
  const rig = await startRawRig(
    t,
    remapping(() => {
      if (refuse) throw new VfioUserError('ENOMEM', 'no room');
    }),
  );
  const { guest, device } = rig;
  const frontend = await connectNegotiated(t, rig);
  const idle = device.descriptors;
  const fd = filledMemory(t, 4096, 0x11);
  t.is(await ask(guest, frontend, table(region(0, 4096)), [fd]), 1n);
  t.is(guest.read(WINDOW, 0, 4), 0);
  t.is(device.descriptors, idle);
  refuse = false;
  t.is(await ask(guest, frontend, table(region(0, 4096)), [fd]), 0n);
  t.is(guest.read(WINDOW, 0, 4), 0x11111111, 'trapped accesses reach what is mapped');
  // It refuses to unmap: what this process serves ends all the same, without an error per access.
  refuse = true;
  frontend.close();
  await until(() => guest.read(WINDOW, 0, 4) === 0, 'the revocation');
  await until(() => device.log.includes('window could not be emptied'), 'the log line');
  t.notRegex(device.log, /RELEASED/);
});

test('taking many regions back is one operation, whatever the client accepts', async (t) => {
  const seen: RegionRemapRequest[] = [];
  const rig = await startRawRig(
    t,
    remapping((request) => void seen.push(request)),
  );
  const { guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  for (const slot of [0, 1, 2]) {
    const add = request(ADD_MEM_REG, oneRegion(region(slot * MIB, 8192)));
    t.is(await ask(guest, frontend, add, [filledMemory(t, 8192, 1)]), 0n);
  }
  frontend.close();
  await until(() => seen.length === 4, 'the unmap');
  const { ops } = seen[3] ?? { ops: [] };
  t.deepEqual(ops, [{ kind: 'unmap', offset: 0, length: 3 * 8192 }]);
});

test('a client that dies while it maps, and a frontend that dies meanwhile', async (t) => {
  const device = await startDevice(t);
  const idle = device.descriptors;
  for (const first of ['client', 'frontend'] as const) {
    let asked = false;
    const never = remapping(() => {
      asked = true;
      return new Promise<void>(() => undefined);
    });
    const guest = await attach(t, device, never);
    guest.start();
    guest.linkStatus = 1;
    const frontend = await connectNegotiated(t, { device, guest });
    frontend.send(table(region(0, 4096)), [filledMemory(t, 4096, 1)]);
    // Behind it, and never looked at.
    frontend.send(plain(GET_FEATURES));
    await until(() => asked, 'the remap');
    if (first === 'client') guest.close();
    else frontend.close();
    await sleep(20);
    if (first === 'client') await ended(frontend);
    else guest.close();
    await until(() => device.descriptors === idle, `${idle} open fds`);
  }
  const guest = await attach(t, device);
  guest.start();
  guest.linkStatus = 1;
  const next = await connectNegotiated(t, { device, guest });
  t.is(await ask(guest, next, table(region(0, 4096)), [filledMemory(t, 4096, 0x55)]), 0n);
  t.is(guest.read(WINDOW, 0, 4), 0x55555555);
});
