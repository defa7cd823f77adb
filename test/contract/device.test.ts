import test from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { native } from '../../src/native.js';
import { assertEchoes } from '../guest/rig.js';
import { RawPeer } from '../malformed/raw-peer.js';
import { request, u64 } from '../malformed/vhost-user-inputs.js';
import { until } from '../support/until.js';
import { HOSTS } from './hosts.js';

const FRAMING = { headerSize: 12, lengthOffset: 8, lengthIncludesHeader: false };
const SET_VRING_CALL = 13;

for (const { name, start } of HOSTS) {
  test(`${name}: identification and BARs`, async (t) => {
    const { access } = await start(t);
    t.is(access.configRead(0, 4).readUInt32LE(0), 0x1058_1af4);
    t.deepEqual(
      [0, 1, 2, 3, 4, 5].map((bar) => access.barSize(bar)),
      [0x4000, 0x4000, 0x2000, 0, 64 << 20, 0],
    );
  });

  test(`${name}: a doorbell signals the frontend's call eventfd`, async (t) => {
    const { access, vhostUser } = await start(t);
    const driver = new VvuDriver(access);
    driver.start();
    const frontend = new RawPeer(vhostUser, FRAMING);
    t.teardown(() => frontend.close());
    const call = native.createEventFd();
    t.teardown(() => native.closeFd(call));
    const seen: number[] = [];
    driver.on('message', (bytes) => seen.push(bytes.readUInt32LE(0)));
    frontend.send(request(SET_VRING_CALL, u64(0), { flags: 1 }), [call]);
    await until(() => driver.poll() >= 0 && seen.length === 1, 'the message');
    t.deepEqual(seen, [SET_VRING_CALL]);
    t.is(native.readEventFd(call), 0);
    driver.doorbell(0).ring();
    await until(() => native.readEventFd(call) > 0, 'the call eventfd');
    driver.close();
  });

  test(`${name}: packets, a disconnection, packets`, async (t) => {
    const { access, vhostUser } = await start(t);
    const driver = new VvuDriver(access);
    const echo = new NetEcho(1);
    new VhostUserBackend(driver, echo);
    driver.start();
    const loop = new PollLoop([driver, echo]);
    t.teardown(() => loop.stop());
    for (let generation = 1; generation <= 2; generation++) {
      const frontend = NetFrontend.connect(vhostUser, { queuePairs: 1 });
      await frontend.start();
      await assertEchoes(t, frontend, 100);
      t.is(echo.counters[0]?.packets, 100 * generation);
      frontend.close();
    }
  });
}
