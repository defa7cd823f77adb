import test, { type ExecutionContext } from 'ava';
import { native } from '../../src/native.js';
import { assertEchoes, startRig, type RigOptions } from './rig.js';

const PAGE = 4096;
const RAM = 64 * 2 ** 20;
const LOG_BYTES = RAM / PAGE / 8;

/** Traffic with dirty logging, and what the frontend's memory and the log say of it. */
async function migrate(t: ExecutionContext, options: RigOptions): Promise<void> {
  const { connect } = await startRig(t, options);
  const frontend = connect({ ramBytes: RAM / 8 });
  await frontend.start();
  await assertEchoes(t, frontend, 100);
  const fd = native.createMemfd('log', LOG_BYTES);
  t.teardown(() => native.closeFd(fd));
  const log = native.map(fd, { offset: 0, length: LOG_BYTES, writable: true });
  t.teardown(() => log.release());
  const dirty = (address: number): boolean => {
    const page = Math.floor(address / PAGE);
    return (((log.read(Math.floor(page / 8), 1)[0] ?? 0) >> (page % 8)) & 1) === 1;
  };
  const anything = (): boolean => log.read(0, LOG_BYTES).some((byte) => byte !== 0);

  await frontend.startLogging({ fd, size: LOG_BYTES });
  t.false(anything(), 'nothing was written since');
  const pages = RAM / 8 / PAGE;
  const before = Array.from({ length: pages }, (_, page) =>
    frontend.guestMemory.read(page * PAGE, PAGE),
  );
  await assertEchoes(t, frontend, 200);
  const changed = before.flatMap((bytes, page) =>
    bytes.equals(frontend.guestMemory.read(page * PAGE, PAGE)) ? [] : [page * PAGE],
  );
  const [pair] = frontend.pairs;
  if (pair === undefined) throw new Error('no queue pair');
  // Pages of the driver's own (descriptors, available rings, transmit buffers) change too.
  const own = new Set([
    ...[pair.receive, pair.transmit].flatMap(({ config }) => [
      Math.floor(config.driverArea / PAGE) * PAGE,
      Math.floor(config.descriptorArea / PAGE) * PAGE,
    ]),
  ]);
  t.true(dirty(pair.receive.config.deviceArea), 'used ring of the receive queue');
  t.true(dirty(pair.transmit.config.deviceArea), 'used ring of the transmit queue');
  t.true(changed.length > 0);
  t.true(
    changed.filter((page) => !own.has(page)).some((page) => dirty(page)),
    'receive buffers',
  );

  await frontend.stopLogging();
  log.fill(0, LOG_BYTES, 0);
  await assertEchoes(t, frontend, 100);
  t.false(anything(), 'logging has ended');
}

test.serial('a mapped log gets a bit for each page that the backend writes', async (t) => {
  await migrate(t, {});
});

test.serial('a trapped log gets the same', async (t) => {
  await migrate(t, { access: { regionRemap: false } });
});

test.serial(
  'another log takes the place of the first, and a frontend without one follows',
  async (t) => {
    const { connect } = await startRig(t);
    const frontend = connect();
    await frontend.start();
    for (const pages of [1, 4]) {
      const size = pages * PAGE;
      const fd = native.createMemfd('log', size);
      await frontend.startLogging({ fd, size });
      await assertEchoes(t, frontend, 50);
      const log = native.map(fd, { offset: 0, length: size, writable: false });
      t.true(log.read(0, size).some((byte) => byte !== 0));
      log.release();
      native.closeFd(fd);
    }
    frontend.close();
    const next = connect();
    await next.start();
    await assertEchoes(t, next, 50);
  },
);
