import type { ExecutionContext } from 'ava';
import { native } from '../../src/native.js';
import * as wire from './bare-frontend.js';
import { BareFrontend } from './bare-frontend.js';
import {
  bringUp,
  CAP_SHARED_MEMORY,
  CONFIG_VECTOR,
  KICK_VECTOR,
  MASTER_UP,
  readStatus,
  ringDoorbell,
  RX_VECTOR,
  setKickVector,
  SLAVE_UP,
  TX_VECTOR,
  type DriverResources,
} from './device-guest.js';
import type { DeviceProcess } from './device-process.js';
import type { GuestPci } from './guest-pci.js';
import type { GuestQueue } from './guest-queue.js';
import { VIRTIO_F_VERSION_1, type GuestVirtio } from './guest-virtio.js';
import { pattern } from './pattern.js';

const TIMEOUT = 10_000;
const MIB = 2n ** 20n;
/** Enough words for an error to show, few enough for a window whose accesses are trapped. */
const SAMPLE = 4096;
const RIGHT = 'wrong=0 first=0x0';

/** A frontend's visit, seen from both of its ends. */
export interface Visit {
  readonly process: DeviceProcess;
  readonly device: GuestVirtio;
  readonly driver: DriverResources;
  /** How the guest reaches the window. */
  readonly window: GuestPci;
  /** The preset file of the window. */
  readonly preset: string;
}

interface Running extends Visit {
  readonly frontend: BareFrontend;
  readonly rx: GuestQueue;
  readonly tx: GuestQueue;
}

/**
 * A driver comes up, a frontend connects, a message goes each way, a call and a kick cross, the
 * frontend's memory appears in the window, the frontend leaves. Every step is seen by its
 * interrupt. Then the driver resets the device.
 */
export async function visit(t: ExecutionContext, one: Visit): Promise<void> {
  const { process, device, driver } = one;
  const queues = await bringUp(t, device, driver);
  const frontend = BareFrontend.connect(process.vhostUser);
  const running = { ...one, ...queues, frontend };
  let foreign = 0;
  try {
    t.true(await driver.interrupts.fired(CONFIG_VECTOR, TIMEOUT), 'the frontend has come');
    t.is(await readStatus(device), SLAVE_UP | MASTER_UP);
    // The 2019 driver reads ISR under MSI-X, and wants bit 1 for a configuration change.
    t.is((await device.isr()) & 2, 2);
    await exchange(t, running);
    await signals(t, running);
    foreign = await memory(t, running);
  } finally {
    await frontend.close();
  }
  t.true(await driver.interrupts.fired(CONFIG_VECTOR, TIMEOUT), 'the frontend has left');
  t.is(await readStatus(device), 0);
  const { bar } = device.structure(CAP_SHARED_MEMORY);
  t.is(await one.window.read64(bar, foreign), 0n, 'its memory has left with it');
  await device.reset();
}

/** A request of the frontend reaches rxq, the answer from txq reaches the frontend. */
async function exchange(t: ExecutionContext, running: Running): Promise<void> {
  const { frontend, rx, tx, driver } = running;
  const question = wire.request(wire.GET_FEATURES);
  frontend.send(question);
  t.deepEqual(await rx.used(TIMEOUT), question);
  t.true(await driver.interrupts.fired(RX_VECTOR, TIMEOUT), 'interrupt of rxq');
  const answer = wire.reply(wire.GET_FEATURES, wire.u64(VIRTIO_F_VERSION_1 | 1n));
  await tx.send(answer);
  t.deepEqual(await frontend.receive(TIMEOUT), answer);
  t.truthy(await tx.used(TIMEOUT));
  t.true(await driver.interrupts.fired(TX_VECTOR, TIMEOUT), 'interrupt of txq');
}

/** A doorbell store signals the frontend's call eventfd, its kick eventfd raises the vector. */
async function signals(t: ExecutionContext, running: Running): Promise<void> {
  const { frontend, rx, device, driver } = running;
  const vring = 1;
  const call = native.createEventFd();
  const kick = native.createEventFd();
  try {
    const setCall = wire.request(wire.SET_VRING_CALL, wire.u64(BigInt(vring)));
    frontend.send(setCall, [call]);
    t.deepEqual(await rx.used(TIMEOUT), setCall);
    await ringDoorbell(device, 0);
    await ringDoorbell(device, vring);
    t.is(native.readEventFd(call), 1, 'its own doorbell, and no other one, rings');

    t.is(await setKickVector(device, vring, KICK_VECTOR), KICK_VECTOR);
    const setKick = wire.request(wire.SET_VRING_KICK, wire.u64(BigInt(vring)));
    frontend.send(setKick, [kick]);
    t.deepEqual(await rx.used(TIMEOUT), setKick);
    await driver.interrupts.fired(KICK_VECTOR, 0);
    for (let kicks = 0; kicks < 3; kicks++) {
      native.signalEventFd(kick);
      t.true(await driver.interrupts.fired(KICK_VECTOR, TIMEOUT), 'interrupt of a kick');
    }
  } finally {
    native.closeFd(call);
    native.closeFd(kick);
  }
}

/**
 * A part of the preset file, and a memfd that nobody but the frontend has, in one table. Resolves
 * with the place of the latter in the window's BAR, where the guest can read something.
 */
async function memory(t: ExecutionContext, running: Running): Promise<number> {
  const { frontend, rx, window, device, preset } = running;
  const { bar, offset } = device.structure(CAP_SHARED_MEMORY);
  const regions = [
    { guestAddress: 0n, size: 2n * MIB, userAddress: 0x7f00_0000_0000n, mmapOffset: 4n * MIB },
    { guestAddress: 16n * MIB, size: MIB, userAddress: 0x7f10_0000_0000n, mmapOffset: 0n },
  ];
  const fds = [
    native.openFile(preset, { writable: true }),
    native.createMemfd('foreign', Number(MIB)),
  ];
  const maps = fds.map((fd, i) =>
    native.map(fd, {
      offset: Number(regions[i]!.mmapOffset),
      length: Number(regions[i]!.size),
      writable: true,
    }),
  );
  try {
    frontend.send(wire.request(wire.SET_MEM_TABLE, wire.memoryTable(regions)), fds);
    const shown = wire.readMemoryTable((await rx.used(TIMEOUT))!.subarray(12));
    t.deepEqual(
      shown.map(({ guestAddress, size, userAddress }) => ({ guestAddress, size, userAddress })),
      regions.map(({ guestAddress, size, userAddress }) => ({ guestAddress, size, userAddress })),
    );
    // Drivers lay the regions out one after the other, each of mmap_offset + size bytes.
    let base = 0n;
    let place = 0;
    for (const [index, region] of shown.entries()) {
      place = offset + Number(base + region.mmapOffset);
      for (const at of [0, Number(region.size) - SAMPLE]) {
        await window.fill(bar, place + at, SAMPLE, at + 1);
        t.deepEqual(maps[index]!.read(at, SAMPLE), pattern(SAMPLE, at + 1));
        maps[index]!.write(at, pattern(SAMPLE, at + 2));
        t.is(await window.check(bar, place + at, SAMPLE, at + 2), RIGHT, `region ${index}`);
      }
      base += region.mmapOffset + region.size;
    }
    t.not(await window.read64(bar, place), 0n);
    return place;
  } finally {
    for (const map of maps) map.release();
    for (const fd of fds) native.closeFd(fd);
  }
}
