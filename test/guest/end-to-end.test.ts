import { join } from 'node:path';
import test from 'ava';
import {
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_STATUS,
  featureBits,
} from '../../src/vhost-user/index.js';
import { LAYOUTS } from '../../src/hosts/layout.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../../src/virtio/ring-constants.js';
import { assertEchoes, startRig, testDirectory } from './rig.js';

test.serial('packets pass through a window that is mapped at run time', async (t) => {
  const { connect, driver, echo } = await startRig(t);
  const frontend = connect({ ram: { regions: 2 } });
  await frontend.start();
  t.true(driver.window.mapped(0, 4096));
  await assertEchoes(t, frontend, 3000, 60);
  await assertEchoes(t, frontend, 300, 1514);
  t.deepEqual(echo.counters, [
    { packets: 3300, bytes: 3000 * 60 + 300 * 1514, drops: 0, waits: echo.counters[0]?.waits ?? 0 },
  ]);
  t.deepEqual(await frontend.stop(), [3300 & 0xffff, 3300 & 0xffff]);
});

test.serial('four queue pairs keep their packets apart', async (t) => {
  const { connect, echo } = await startRig(t, { queuePairs: 4 });
  const frontend = connect();
  await frontend.start();
  await assertEchoes(t, frontend, 1000);
  t.deepEqual(
    echo.counters.map(({ packets, drops }) => ({ packets, drops })),
    new Array(4).fill({ packets: 1000, drops: 0 }),
  );
});

test.serial('a trapped window works the same, message by message', async (t) => {
  const { connect, driver } = await startRig(t, { access: { regionRemap: false } });
  const frontend = connect({ ram: { regions: 2 } });
  await frontend.start();
  t.false(driver.window.mapped(0, 1));
  await assertEchoes(t, frontend, 100, 1514);
});

test.serial('a preset file is both the frontend RAM and the window', async (t) => {
  const directory = testDirectory(t);
  const path = join(directory, 'ram');
  const { connect, driver } = await startRig(t, {
    directory,
    access: { regionRemap: false },
    device: ['--window', `path=${path},size=8M`],
  });
  t.true(driver.window.mapped(0, 8 * 1024 * 1024), 'before any frontend');
  const frontend = connect({ ram: { path, regions: 2 }, ramBytes: 8 * 1024 * 1024 });
  await frontend.start();
  await assertEchoes(t, frontend, 2000);
});

for (const layout of LAYOUTS) {
  test.serial(`two queue pairs and their interrupts, layout ${layout}`, async (t) => {
    const { connect, driver } = await startRig(t, {
      device: ['--window', 'size=64M', '--layout', layout],
      queuePairs: 2,
      driver: { interrupts: true },
    });
    t.truthy(driver.kick(3), 'there are vectors for kicks');
    const frontend = connect();
    await frontend.start();
    await assertEchoes(t, frontend, 500);
  });
}

const lesser: [string, { withoutFeatures?: bigint; withoutProtocolFeatures?: bigint }][] = [
  ['EVENT_IDX', { withoutFeatures: VIRTIO_F_EVENT_IDX }],
  ['indirect descriptors', { withoutFeatures: VIRTIO_F_INDIRECT_DESC }],
  ['mergeable buffers', { withoutFeatures: 1n << 15n }],
  ['protocol features', { withoutFeatures: 1n << 30n }],
  [
    'memory slots',
    { withoutProtocolFeatures: featureBits(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) },
  ],
  [
    'acknowledgements and status',
    {
      withoutProtocolFeatures: featureBits(
        VHOST_USER_PROTOCOL_F_REPLY_ACK,
        VHOST_USER_PROTOCOL_F_STATUS,
      ),
    },
  ],
];

test.serial('frontends without this and that, one after the other', async (t) => {
  const { connect } = await startRig(t);
  for (const [what, options] of lesser) {
    const frontend = connect({ ...options, ram: { regions: 2 } });
    await frontend.start();
    await t.notThrowsAsync(assertEchoes(t, frontend, 500), what);
    await frontend.stop();
    frontend.close();
  }
});
