import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { native } from '../../../src/native.js';
import { available, declareTests } from '../../support/declare-tests.js';
import { hugepagesMissing, reserveHugepages, type Hugepages } from '../../support/hugepages.js';
import { temporaryFolder } from '../../support/temporary.js';
import { until } from '../../support/until.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { deviceId } from '../device-guest.js';
import { GuestPci, listFunctions } from '../guest-pci.js';
import { bytes, type GuestMemory } from '../qemu-arguments.js';
import type { Vm, VmOptions } from '../qemu.js';
import { BlkLab } from './blk-lab.js';

// One appliance with a device for each kind of window, and a frontend VM for each, which does the
// same with its disk. Then the appliance looks for one frontend's memory in the other's window.

const { value: kits, reason } = await available(scenarioKits);
const vmTest = declareTests(reason ?? hugepagesMissing());

/** The places of the devices in the appliance. */
const [MEMFD, HUGETLBFS, OVER_4G, TRAPPED] = [0, 1, 2, 3] as const;
const MEMORY = '192M';
/** Of which this much is below 4 GiB. */
const HALF = '96M';
/** Page cache for this much is in both halves. */
const MIB_IN_BOTH = 100;
/** QEMU has 2 GiB of it below 4 GiB. */
const LARGE = '3G';
const SMALL = '128M';
const DISK_MIB = 128;
const TIMEOUT = 900_000;

const folder = await temporaryFolder('windows', '/dev/shm');
let hugepages: Hugepages | undefined;
let lab: BlkLab | undefined;

test.after.always(async () => {
  await lab?.close();
  await hugepages?.release();
  await folder.remove();
});

function memories(): GuestMemory[] {
  const memfd = native.createMemfd('frontend', bytes(MEMORY));
  hugepages = reserveHugepages(bytes(MEMORY) / 2 ** 20);
  const memory: GuestMemory[] = [];
  memory[MEMFD] = { size: MEMORY, path: `/proc/${process.pid}/fd/${memfd}` };
  memory[HUGETLBFS] = { size: MEMORY, path: join(hugepages.dir, 'ram') };
  memory[OVER_4G] = { size: LARGE, path: join(folder.path, 'large') };
  memory[TRAPPED] = { size: SMALL };
  return memory;
}

function running(): BlkLab {
  if (lab === undefined) throw new Error('the appliance did not start');
  return lab;
}

/** Lets a frontend do what `blk.test.ts` does, and says where its memory is in the window. */
async function useDisk(
  t: ExecutionContext,
  index: number,
  mib: number,
  options: VmOptions = {},
): Promise<readonly string[]> {
  const one = running();
  try {
    await one.startFrontend(index, options);
    const { files, read, errors, bytesWritten, bytesRead } = await one.writeFiles(index, mib);
    t.log(`written ${bytesWritten} bytes, read ${bytesRead} bytes, errors ${errors}`);
    t.deepEqual(read, files);
    t.is(errors, 0);
  } catch (error) {
    t.log(await one.appliance.log());
    throw error;
  }
  const table =
    one.appliance
      .service(index)
      .device.log.match(/memory table (.*)/g)
      ?.at(-1) ?? '';
  const regions = [...table.matchAll(/guest [^"]*/g)].map(([text]) => text);
  t.log(regions.join('; '));
  return regions;
}

vmTest('an appliance with four devices starts', async (t) => {
  if (!kits) return;
  t.timeout(TIMEOUT);
  lab = await BlkLab.start(kits, {
    folder: folder.path,
    diskMib: DISK_MIB,
    frontends: memories(),
    say: (line) => console.log(line),
  });
  t.is(lab.appliance.services.length, 4);
});

vmTest('preset, hugetlbfs: a frontend uses its disk', async (t) => {
  t.timeout(TIMEOUT);
  const regions = await useDisk(t, HUGETLBFS, 16);
  t.deepEqual(regions, ['guest 0x0 + 0xc000000 at 0x0 (preset)']);
  await running().stopFrontend(HUGETLBFS);
});

vmTest('preset, 3 GiB around the hole below 4 GiB: a frontend uses its disk', async (t) => {
  t.timeout(TIMEOUT);
  const regions = await useDisk(t, OVER_4G, 16);
  t.deepEqual(regions, [
    'guest 0x0 + 0x80000000 at 0x0 (preset)',
    'guest 0x100000000 + 0x40000000 at 0x80000000 (preset)',
  ]);
  await running().stopFrontend(OVER_4G);
});

vmTest('preset, a memfd in two regions: a frontend uses its disk out of both', async (t) => {
  t.timeout(TIMEOUT);
  const regions = await useDisk(t, MEMFD, MIB_IN_BOTH, { below4G: HALF });
  t.deepEqual(regions, [
    'guest 0x0 + 0x6000000 at 0x0 (preset)',
    'guest 0x100000000 + 0x6000000 at 0x6000000 (preset)',
  ]);
});

vmTest('trapped: a frontend uses its disk, slowly', async (t) => {
  t.timeout(TIMEOUT);
  const one = running();
  const vm = await one.startFrontend(TRAPPED);
  const began = Date.now();
  const blocks = 'bs=4096 count=16 2>/dev/null';
  await one.appliance.whileServed(
    vm.shell(
      `mkdir -p /tmp; dd if=/dev/urandom of=/tmp/data ${blocks} && dd if=/tmp/data of=/dev/vda oflag=direct ${blocks}`,
      TIMEOUT,
    ),
  );
  const [written] = await vm.shell('sha256sum < /tmp/data');
  const [read] = await one.appliance.whileServed(
    vm.shell(`dd if=/dev/vda iflag=direct ${blocks} | sha256sum`, TIMEOUT),
  );
  t.log(`64 KiB written and read in ${(Date.now() - began) / 1000} s`);
  t.is(read, written);
  t.regex(one.appliance.service(TRAPPED).device.log, /guest 0x0 \+ 0x8000000 at 0x0 \(trapped\)/);
});

const WINDOW_BAR = 4;
const PAGE = 4096;
const WORD = 8;
const PATTERN_MIB = 16;
/** A word each, as text: files of them are aligned in memory. */
const SECRETS = { [MEMFD]: 'secretA\n', [TRAPPED]: 'secretB\n' } as const;
type Tenant = keyof typeof SECRETS;
const STRIDE = { [MEMFD]: WORD, [TRAPPED]: PAGE } as const;

/** Fills memory of the guest with its secret. */
async function plant(vm: Vm, secret: string): Promise<void> {
  const file = '/tmp/secret';
  await vm.shell(`mkdir -p /tmp; yes ${secret.trim()} | head -c 1048576 > ${file}-part`, TIMEOUT);
  await vm.shell(`for i in $(seq ${PATTERN_MIB}); do cat ${file}-part; done > ${file}`, TIMEOUT);
}

/**
 * What the appliance sees of a secret in a window: all words of a mapped one, and one word of each
 * page of a trapped one, where an access is a message.
 */
async function look(
  window: Tenant,
  owner: Tenant,
): Promise<{ readonly equal: number; readonly nonzero: number }> {
  const { vm, services } = running().appliance;
  const functions = (await listFunctions(vm)).filter(({ id }) => id === deviceId('split'));
  const found = functions[window];
  const size = services[window]?.memory.size;
  if (found === undefined || size === undefined) throw new Error(`there is no device ${window}`);
  const word = Buffer.from(SECRETS[owner]).readBigUInt64LE();
  const range = { word, stride: STRIDE[window] };
  return new GuestPci(vm, found.bdf).count(WINDOW_BAR, 0, bytes(size), range);
}

vmTest('a window shows its own frontend, and nothing of the other one', async (t) => {
  t.timeout(TIMEOUT);
  const one = running();
  const tenants = [MEMFD, TRAPPED] as const;
  for (const tenant of tenants) await plant(one.frontend(tenant), SECRETS[tenant]);
  for (const window of tenants) {
    for (const owner of tenants) {
      const seen = await look(window, owner);
      t.log(`window ${window}, secret of ${owner}: ${JSON.stringify(seen)}`);
      if (window === owner) t.true(seen.equal >= (PATTERN_MIB * 2 ** 20) / STRIDE[window]);
      else t.is(seen.equal, 0);
    }
  }
});

vmTest('a trapped window reads as zeros once its frontend has gone', async (t) => {
  t.timeout(TIMEOUT);
  const one = running();
  const { device } = one.appliance.service(TRAPPED);
  const left = (): number => device.log.split('frontend disconnected').length - 1;
  const before = left();
  await one.frontend(TRAPPED).kill();
  await until(() => left() > before, 'the end of the connection');
  t.deepEqual(await look(TRAPPED, TRAPPED), { equal: 0, nonzero: 0 });

  await one.startFrontend(TRAPPED);
  const next = await look(TRAPPED, TRAPPED);
  t.log(`the next frontend: ${JSON.stringify(next)}`);
  t.true(next.nonzero > 0);
  t.is(next.equal, 0);
});

vmTest("a preset window shows the operator's file, frontend or not", async (t) => {
  t.timeout(TIMEOUT);
  const one = running();
  const { device } = one.appliance.service(MEMFD);
  await one.frontend(MEMFD).kill();
  await until(() => device.log.includes('frontend disconnected'), 'the end of the connection');
  const seen = await look(MEMFD, MEMFD);
  t.log(JSON.stringify(seen));
  t.true(seen.equal >= (PATTERN_MIB * 2 ** 20) / WORD);
});
