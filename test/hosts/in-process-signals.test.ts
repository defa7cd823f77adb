import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native.js';
import { u64 } from '../malformed/vhost-user-inputs.js';
import { startMachine, type MachineRig } from '../support/machine-rig.js';
import { MSI_ADDRESS } from '../support/machine.js';
import { CONFIG_VECTOR, ISR, QUEUE_SELECT, QUEUE_VECTOR } from '../support/raw-driver.js';
import {
  SET_VRING_CALL,
  SET_VRING_KICK,
  connectFrontend,
  eventFd,
  plain,
  served,
  signalled,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* The interrupt and doorbell ports of a hypervisor in this process, one form after the other. */
const SELECT = 4096;
const VECTOR = SELECT + 2;
const DOORBELL_BAR = 2;
const COMMAND = 4;
const INTX_DISABLE = 1 << 10;

function assign({ guest }: MachineRig, vring: number, vector: number): void {
  guest.write(DOORBELL_BAR, SELECT, 2, vring);
  guest.write(DOORBELL_BAR, VECTOR, 2, vector);
}

test('MSI-X messages: vector, address and data of the driver, for changes, queues and kicks', async (t) => {
  const rig = startMachine(t);
  const { machine, guest, access, device } = rig;
  for (const vector of [5, 6, 7]) access.enableVector(vector);
  guest.write(0, CONFIG_VECTOR, 2, 5);
  guest.write(0, QUEUE_SELECT, 2, 0);
  guest.write(0, QUEUE_VECTOR, 2, 6);
  assign(rig, 0, 7);
  const kick = eventFd(t);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
  await served(guest, SET_VRING_KICK);
  native.signalEventFd(kick);
  await until(() => machine.messages.length >= 3, 'three messages');
  const address = BigInt(MSI_ADDRESS);
  t.deepEqual(
    machine.messages,
    [5, 6, 7].map((vector) => ({ vector, address, data: vector })),
  );
  t.deepEqual(machine.levels, [], 'no INTx under MSI-X');
});

test('masked vectors send nothing until they are unmasked', async (t) => {
  const rig = startMachine(t);
  const { machine, guest, access, device } = rig;
  access.enableVector(7);
  assign(rig, 0, 7);
  const kick = eventFd(t);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
  await served(guest, SET_VRING_KICK);
  const control = 16 * 7 + 12;
  guest.write(1, control, 4, 1);
  native.signalEventFd(kick);
  await sleep(20);
  t.deepEqual(machine.messages, []);
  guest.write(1, control, 4, 0);
  await until(() => machine.messages.length === 1, 'the message');
});

test('an eventfd per vector takes kicks past JavaScript, and follows the message', async (t) => {
  const rig = startMachine(t, { interrupts: 'eventfd' });
  const { machine, guest, access, device } = rig;
  const [first, second] = [access.enableVector(7).eventfd, access.enableVector(8).eventfd];
  guest.write(0, CONFIG_VECTOR, 2, 8);
  assign(rig, 0, 7);
  const kick = eventFd(t);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
  await served(guest, SET_VRING_KICK);
  t.is(native.readEventFd(second), 1, 'interrupts of the device itself go there too');
  native.signalEventFd(kick);
  await signalled(first);
  // The driver moves the vector to another line of the interrupt controller.
  guest.write(1, 16 * 7 + 8, 4, 8);
  native.signalEventFd(kick);
  await signalled(second);
  t.is(native.readEventFd(first), 0);
  t.deepEqual(machine.messages, [], 'never the callback');
  t.deepEqual(machine.errors, []);
});

test('an eventfd that is none is reported, and the callback takes its place', async (t) => {
  const seen: number[] = [];
  const rig = startMachine(
    t,
    {},
    {
      interrupts: {
        msix: (vector) => void seen.push(vector),
        intx: () => undefined,
        eventFd: (vector) => (vector === 7 ? 0 : undefined),
      },
    },
  );
  const { machine, guest, access, device } = rig;
  for (const vector of [7, 8]) access.enableVector(vector);
  assign(rig, 0, 7);
  assign(rig, 1, 8);
  const kicks = [eventFd(t), eventFd(t)];
  const frontend = connectFrontend(t, device);
  for (const [vring, fd] of kicks.entries()) {
    frontend.send(plain(SET_VRING_KICK, u64(vring)), [fd]);
    await served(guest, SET_VRING_KICK);
  }
  t.is(machine.errors.length, 1);
  native.signalEventFd(kicks[1]!);
  await until(() => seen.includes(8), 'the callback');
  native.signalEventFd(kicks[0]!);
  await until(() => seen.includes(7), 'the callback in place of the eventfd');
});

test('INTx is a level: the ISR lowers it, the command register and MSI-X mute it, close lowers it', async (t) => {
  const { machine, guest, access, device } = startMachine(t);
  const { levels } = machine;
  const kick = eventFd(t);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
  await served(guest, SET_VRING_KICK);
  t.deepEqual(levels, [true], 'the status change and the message are one level');
  t.is(guest.read(0, ISR, 1), 3);
  t.deepEqual(levels, [true, false]);
  native.signalEventFd(kick);
  await until(() => levels.length === 3, 'the kick');
  const command = access.configRead(COMMAND, 2);
  command.writeUInt16LE(command.readUInt16LE() | INTX_DISABLE);
  access.configWrite(COMMAND, command);
  t.deepEqual(levels.slice(3), [false]);
  command.writeUInt16LE(command.readUInt16LE() & ~INTX_DISABLE);
  access.configWrite(COMMAND, command);
  t.deepEqual(levels.slice(4), [true], 'still pending');
  access.enableVector(0);
  t.deepEqual(levels.slice(5), [false]);
  access.disableVectors();
  t.deepEqual(levels.slice(6), [true]);
  await machine.device.close();
  t.deepEqual(levels.slice(7), [false]);
  t.deepEqual(machine.messages, []);
});

test('ports that throw are reported, and the device goes on', async (t) => {
  const fail = (what: string) => () => {
    throw new Error(what);
  };
  const { machine, guest, access, device } = startMachine(
    t,
    {},
    {
      interrupts: { msix: fail('msix'), intx: fail('intx') },
      doorbells: { bind: fail('doorbell') },
    },
  );
  const call = eventFd(t);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(SET_VRING_CALL, u64(0)), [call]);
  await served(guest, SET_VRING_CALL);
  t.deepEqual(machine.errors.map(({ message }) => message).sort(), ['doorbell', 'intx']);
  access.enableVector(0);
  guest.write(0, CONFIG_VECTOR, 2, 0);
  frontend.close();
  await until(() => machine.errors.some(({ message }) => message === 'msix'), 'the third');
  t.is(guest.linkStatus, 0);
});

test('doorbells: bound with their place, unbound with the frontend, and served without a port', async (t) => {
  const { machine, guest, access, device } = startMachine(t, { doorbells: 'ioeventfd' });
  const frontend = connectFrontend(t, device);
  const call = eventFd(t);
  frontend.send(plain(SET_VRING_CALL, u64(3)), [call]);
  await served(guest, SET_VRING_CALL);
  t.deepEqual([...machine.doorbells.keys()], [`${DOORBELL_BAR}:12`]);
  access.barWrite(DOORBELL_BAR, 12, Buffer.from([3, 0]));
  await signalled(call);
  // A hypervisor that traps the store all the same.
  machine.device.barWrite(DOORBELL_BAR, 12, Buffer.from([3, 0]));
  await signalled(call);
  const other = eventFd(t);
  frontend.send(plain(SET_VRING_CALL, u64(3)), [other]);
  await served(guest, SET_VRING_CALL);
  t.is(machine.doorbells.size, 1, 'the earlier binding was closed first');
  frontend.close();
  await until(() => machine.doorbells.size === 0, 'the end of the binding');
  t.deepEqual(machine.errors, []);
});
