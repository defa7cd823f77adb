import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native.js';
import { u64 } from '../malformed/vhost-user-inputs.js';
import { CONFIG_REGION, ISR, type RawGuest } from '../support/raw-guest.js';
import {
  SET_VRING_KICK,
  connectFrontend,
  eventFd,
  plain,
  served,
  signalled,
  startRawRig,
} from '../support/raw-rig.js';

/* Interrupts over vfio-user: INTx with its masks, and MSI-X eventfds that come and go. */
const INTX = 0;
const MSIX = 2;
/** VFIO_IRQ_SET_DATA_NONE, and VFIO_IRQ_SET_ACTION_UNMASK or _TRIGGER. */
const UNMASK = 0x01 | 0x10;
const DISABLE = 0x01 | 0x20;
/** ISR bits: queue, configuration, and the draft specification's kick. */
const ISR_KICK = 4;
/** BAR 2: notification select and vector, behind the doorbells of 256 vrings (513 of 4 bytes). */
const SELECT = 4096;
const VECTOR = SELECT + 2;
const MSIX_CAPABILITY = 0x11;
const MSIX_ENABLE = 0x8000;

const unmask = (guest: RawGuest): Promise<void> =>
  guest.client.setIrqs({ index: INTX, start: 0, count: 1, flags: UNMASK, bools: undefined });

function setMsixEnable(guest: RawGuest, enabled: boolean): void {
  let at = guest.read(CONFIG_REGION, 0x34, 1);
  while (guest.read(CONFIG_REGION, at, 1) !== MSIX_CAPABILITY) {
    at = guest.read(CONFIG_REGION, at + 1, 1);
  }
  guest.write(CONFIG_REGION, at + 2, 2, enabled ? MSIX_ENABLE : 0);
}

function assign(guest: RawGuest, vring: number, vector: number): void {
  guest.write(2, SELECT, 2, vring);
  guest.write(2, VECTOR, 2, vector);
}

test('without MSI-X a kick is ISR bit 2 and INTx, which fires again at its end while it is asserted', async (t) => {
  const { device, guest } = await startRawRig(t);
  const intx = eventFd(t);
  const kick = eventFd(t);
  await guest.client.setIrqEventFds(INTX, 0, [intx]);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
  await served(guest, SET_VRING_KICK);
  t.is(native.readEventFd(intx), 1, 'one edge for the status change and the message');
  t.is(guest.read(0, ISR, 1), 3);
  t.is(guest.read(0, ISR, 1), 0, 'reading clears');
  await unmask(guest);
  t.is(native.readEventFd(intx), 0, 'the level is low');

  native.signalEventFd(kick);
  await signalled(intx);
  native.signalEventFd(kick);
  await sleep(20);
  t.is(native.readEventFd(intx), 0, 'masked until the end of interrupt');
  await unmask(guest);
  t.is(native.readEventFd(intx), 1, 'still asserted');
  t.is(guest.read(0, ISR, 1), ISR_KICK);
  await unmask(guest);
  t.is(native.readEventFd(intx), 0);

  // A vector means nothing while MSI-X is disabled and nobody takes it.
  assign(guest, 0, 3);
  t.is(guest.read(2, VECTOR, 2), 3);
  native.signalEventFd(kick);
  await signalled(intx);
  t.is(guest.read(0, ISR, 1), ISR_KICK);
});

test('INTx that is asserted before the client sets its eventfd fires when it does', async (t) => {
  const { device, guest } = await startRawRig(t);
  const intx = eventFd(t);
  connectFrontend(t, device);
  await signalledIsr(guest);
  await guest.client.setIrqEventFds(INTX, 0, [intx]);
  t.is(native.readEventFd(intx), 1);
});

/** Waits for the ISR without clearing it: by the PCI status register. */
async function signalledIsr(guest: RawGuest): Promise<void> {
  while ((guest.read(CONFIG_REGION, 6, 2) & 8) === 0) await sleep(2);
}

test('a kick follows the eventfds of its vector, and waits where there is none', async (t) => {
  const { device, guest } = await startRawRig(t);
  const [first, second, kick] = [eventFd(t), eventFd(t), eventFd(t)];
  setMsixEnable(guest, true);
  assign(guest, 1, 7);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(1)), [kick]);
  await served(guest, SET_VRING_KICK);
  native.signalEventFd(kick);
  await sleep(20);
  await guest.client.setIrqEventFds(MSIX, 7, [first]);
  await signalled(first);
  await guest.client.setIrqEventFds(MSIX, 7, [second]);
  native.signalEventFd(kick);
  await signalled(second);
  t.is(native.readEventFd(first), 0, 'the replaced eventfd is silent');
  // The driver moves the vring to a vector without an eventfd, and back.
  assign(guest, 1, 8);
  native.signalEventFd(kick);
  await sleep(20);
  t.is(native.readEventFd(second), 0);
  assign(guest, 1, 7);
  await signalled(second);
  // The client takes all away: the kick waits for the next one.
  const all = { index: MSIX, start: 0, count: 0, flags: DISABLE, bools: undefined };
  await guest.client.setIrqs(all);
  native.signalEventFd(kick);
  await sleep(20);
  t.is(native.readEventFd(second), 0);
  await guest.client.setIrqEventFds(MSIX, 7, [first]);
  await signalled(first);
  // With MSI-X off it is INTx again.
  await guest.client.setIrqs(all);
  setMsixEnable(guest, false);
  guest.read(0, ISR, 1);
  native.signalEventFd(kick);
  await signalledIsr(guest);
  t.is(guest.read(0, ISR, 1), ISR_KICK);
});
