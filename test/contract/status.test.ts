import test from 'ava';
import { listCapabilities } from '../../src/guest/capabilities.js';
import {
  PCI_CAP_ID_EXP,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
} from '../../src/guest/constants.js';
import { CONFIG_VECTOR, QUEUE_ENABLE, QUEUE_SELECT, STATUS } from '../support/raw-driver.js';
import { GET_FEATURES, ask, connectFrontend, ended, plain } from '../support/raw-rig.js';
import { until } from '../support/until.js';
import { HOSTS } from './hosts.js';
import { attach, bringUp, type ContractRig } from './rig.js';

/* Status and features of virtio (§2.1, §2.2, §3.1.1), the link status, and every kind of reset. */
const FEATURES_OK = 0x08;
const ISR = 0x1000;

function functionLevelReset({ access }: ContractRig): void {
  const { at } = listCapabilities(access).find(({ id }) => id === PCI_CAP_ID_EXP)!;
  const control = access.configRead(at + PCI_EXP_DEVCTL, 2);
  control.writeUInt16LE(control.readUInt16LE() | PCI_EXP_DEVCTL_BCR_FLR);
  access.configWrite(at + PCI_EXP_DEVCTL, control);
}

const RESETS: Record<string, (rig: ContractRig) => void> = {
  'status 0': ({ guest }) => (guest.status = 0),
  'a function-level reset': functionLevelReset,
  "the host's reset": ({ access }) => access.reset(),
};

for (const host of HOSTS) {
  test.serial(
    `${host.name}: FEATURES_OK stays only for what was offered, with VERSION_1`,
    async (t) => {
      const { guest } = await attach(t, host);
      const stays = (featuresLow: number, featuresHigh: number): boolean => {
        guest.negotiate({ featuresLow, featuresHigh });
        return (guest.status & FEATURES_OK) !== 0;
      };
      t.true(stays(0, 1));
      t.true(stays((1 << 28) | (1 << 29), 1 | (1 << 1) | (1 << 8)));
      t.false(stays(0, 0), 'without VERSION_1');
      t.false(stays(1, 1), 'bit 0 was not offered');
      t.false(stays(0, 1 | (1 << 2)), 'bit 34 was not offered');
      t.true(stays(0, 1));
    },
  );

  test.serial(
    `${host.name}: the link status, from the driver's first step to a frontend's last`,
    async (t) => {
      const { guest, device } = await attach(t, host);
      guest.negotiate();
      guest.linkStatus = 1;
      t.is(guest.linkStatus, 0, 'nothing before DRIVER_OK');
      guest.status = 0x0f;
      t.is(guest.linkStatus, 1, 'what was written counts from DRIVER_OK on');
      guest.linkStatus = 0;
      t.is(guest.linkStatus, 0);
      const frontend = connectFrontend(t, device);
      guest.linkStatus = 1;
      await until(() => guest.linkStatus === 3, 'the frontend');
      t.is(guest.read(0, ISR, 1) & 2, 2, 'a configuration change');
      // Byte by byte, and with a stale MASTER_UP.
      guest.write(0, 0x2000, 1, 3);
      guest.write(0, 0x2001, 1, 0);
      t.is(guest.linkStatus, 3);
      frontend.close();
      await until(() => guest.linkStatus === 0, 'its end');
      t.is(guest.read(0, ISR, 1) & 2, 2);
      t.is(guest.status, 0x0f);
      const second = connectFrontend(t, device);
      guest.linkStatus = 1;
      await until(() => guest.linkStatus === 3, 'the next');
      guest.linkStatus = 0;
      await ended(second);
    },
  );

  test.serial(`${host.name}: an unknown bit of the link status asks for a reset`, async (t) => {
    const { guest, device } = await bringUp(t, host);
    const frontend = connectFrontend(t, device);
    await until(() => guest.linkStatus === 3, 'the frontend');
    guest.linkStatus = 0x11;
    t.true(guest.needsReset);
    t.is(guest.linkStatus, 0);
    await ended(frontend);
  });

  for (const [name, reset] of Object.entries(RESETS)) {
    test.serial(
      `${host.name}: ${name} ends the session, and the next driver is served`,
      async (t) => {
        const rig = await bringUp(t, host);
        const { guest, device } = rig;
        guest.write(0, CONFIG_VECTOR, 2, 3);
        const frontend = connectFrontend(t, device);
        t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
        reset(rig);
        t.is(guest.status, 0);
        t.is(guest.linkStatus, 0);
        t.is(guest.read(0, CONFIG_VECTOR, 2), 0xffff);
        t.is(guest.read(0, ISR, 1), 0);
        guest.write(0, QUEUE_SELECT, 2, 1);
        t.is(guest.read(0, QUEUE_ENABLE, 2), 0);
        await ended(frontend);
        guest.start();
        guest.linkStatus = 1;
        t.is(guest.read(0, STATUS, 1), 0x0f);
        const next = connectFrontend(t, device);
        t.not(await ask(guest, next, plain(GET_FEATURES)), 'dropped');
      },
    );
  }
}
