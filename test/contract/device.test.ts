import test from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { assertEchoes } from '../guest/rig.js';
import { HOSTS } from './hosts.js';

for (const { name, start } of HOSTS) {
  test.serial(`${name}: packets, a disconnection, packets`, async (t) => {
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
