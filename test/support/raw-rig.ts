import type { ExecutionContext } from 'ava';
import type { VfioUserClientOptions } from 'vfio-ts-bindings';
import { native } from '../../src/native.js';
import { RawPeer } from '../malformed/raw-peer.js';
import { request, u32, u64 } from '../malformed/vhost-user-inputs.js';
import { DeviceProcess, type DeviceProcessOptions } from '../vm/device-process.js';
import type { RawDriver } from './raw-driver.js';
import { RawGuest, type GuestSetup } from './raw-guest.js';
import { until } from './until.js';

export const VHOST_USER_FRAMING = { headerSize: 12, lengthOffset: 8, lengthIncludesHeader: false };
/** Requests of the vhost-user specification. */
export const GET_FEATURES = 1;
export const RESET_OWNER = 4;
export const SET_MEM_TABLE = 5;
export const SET_VRING_KICK = 12;
export const SET_VRING_CALL = 13;
export const GET_PROTOCOL_FEATURES = 15;
export const SET_PROTOCOL_FEATURES = 16;
export const GET_CONFIG = 24;
export const ADD_MEM_REG = 37;
export const REM_MEM_REG = 38;

const VERSION = 1;
const NEED_REPLY = 1 << 3;
const REPLY = VERSION | (1 << 2);
/** VERSION_1 and PROTOCOL_FEATURES. */
const FEATURES = (1n << 32n) | (1n << 30n);
/** MQ, REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS. */
const PROTOCOL_FEATURES = 1n | (1n << 3n) | (1n << 9n) | (1n << 15n);
/** To the requests that have a reply of their own. */
const ANSWERS = new Map([
  [GET_FEATURES, FEATURES],
  [GET_PROTOCOL_FEATURES, PROTOCOL_FEATURES],
]);

/** A request that wants no acknowledgement. */
export const plain = (id: number, payload?: Buffer): Buffer =>
  request(id, payload, { flags: VERSION });

/** ADD_MEM_REG and REM_MEM_REG: padding, then the region. */
export const oneRegion = (region: Buffer): Buffer => Buffer.concat([u64(0), region]);

export interface RigOptions extends Partial<DeviceProcessOptions> {
  readonly client?: VfioUserClientOptions;
  readonly setup?: GuestSetup;
}

/** Where frontends connect to a device, whatever it runs in. */
export interface Frontends {
  readonly vhostUser: string;
}

/** A device process with a hand-driven guest, which is up and waits for frontends. */
export interface RawRig {
  readonly device: DeviceProcess;
  readonly guest: RawGuest;
}

export async function startDevice(
  t: ExecutionContext,
  options: RigOptions = {},
): Promise<DeviceProcess> {
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=1M', ...options });
  t.teardown(() => device.close());
  return device;
}

export async function attach(
  t: ExecutionContext,
  device: DeviceProcess,
  options: RigOptions = {},
): Promise<RawGuest> {
  const guest = await RawGuest.attach(device.vfioUser, options.client);
  t.teardown(() => guest.close());
  return guest;
}

export async function startRawRig(t: ExecutionContext, options: RigOptions = {}): Promise<RawRig> {
  const device = await startDevice(t, options);
  const guest = await attach(t, device, options);
  guest.start(options.setup);
  guest.linkStatus = 1;
  return { device, guest };
}

export function connectFrontend(t: ExecutionContext, device: Frontends): RawPeer {
  const frontend = new RawPeer(device.vhostUser, VHOST_USER_FRAMING);
  t.teardown(() => frontend.close());
  return frontend;
}

/**
 * The guest takes what came for it, gives the buffers back, and answers what wants an answer: with
 * features, with the configuration that GET_CONFIG brought along, or with 0.
 * @returns the messages
 */
export function serveGuest(guest: RawDriver): Buffer[] {
  const messages: Buffer[] = [];
  for (let message = guest.receive(); message; message = guest.receive()) {
    messages.push(message);
    guest.rxq.offer(guest.rxq.last);
    guest.kick(0);
    const id = message.readUInt32LE(0);
    if (id === GET_CONFIG) {
      guest.send(Buffer.concat([u32(id, REPLY, message.length - 12), message.subarray(12)]));
      continue;
    }
    if (!ANSWERS.has(id) && (message.readUInt32LE(4) & NEED_REPLY) === 0) continue;
    guest.send(Buffer.concat([u32(id, REPLY, 8), u64(ANSWERS.get(id) ?? 0n)]));
  }
  return messages;
}

/** The frontend asks, the guest serves, and the value of the reply comes back. */
export async function ask(
  guest: RawDriver,
  frontend: RawPeer,
  bytes: Buffer,
  fds: readonly number[] = [],
): Promise<bigint | 'dropped'> {
  frontend.send(bytes, fds);
  await until(() => {
    serveGuest(guest);
    return frontend.received.length > 0 || frontend.closed !== undefined;
  }, 'a reply');
  return frontend.received.shift()?.readBigUInt64LE(12) ?? 'dropped';
}

/** Negotiates acknowledgements. */
export async function negotiate(guest: RawDriver, frontend: RawPeer): Promise<void> {
  await ask(guest, frontend, plain(GET_FEATURES));
  await ask(guest, frontend, plain(GET_PROTOCOL_FEATURES));
  frontend.send(plain(SET_PROTOCOL_FEATURES, u64(PROTOCOL_FEATURES)));
}

/** A frontend whose messages all reach the guest that is given: it has negotiated. */
export async function connectNegotiated(
  t: ExecutionContext,
  rig: { readonly device: Frontends; readonly guest: RawDriver },
): Promise<RawPeer> {
  const frontend = connectFrontend(t, rig.device);
  await negotiate(rig.guest, frontend);
  return frontend;
}

/** Waits until the guest has served a message with this id. */
export async function served(guest: RawDriver, id: number): Promise<void> {
  await until(() => serveGuest(guest).some((m) => m.readUInt32LE(0) === id), `message ${id}`);
}

export const ended = (frontend: RawPeer): Promise<void> =>
  until(() => frontend.closed !== undefined, 'the end of the connection');

/** An eventfd that goes with the test. */
export function eventFd(t: ExecutionContext): number {
  const fd = native.createEventFd();
  t.teardown(() => native.closeFd(fd));
  return fd;
}

export const signalled = (fd: number): Promise<void> =>
  until(() => native.readEventFd(fd) > 0, `a signal of eventfd ${fd}`);

/** A memfd filled with one byte value; goes with the test. */
export function filledMemory(t: ExecutionContext, bytes: number, value: number): number {
  const fd = native.createMemfd('frontend', bytes);
  t.teardown(() => native.closeFd(fd));
  const memory = native.map(fd, { offset: 0, length: bytes, writable: true });
  memory.fill(0, bytes, value);
  memory.release();
  return fd;
}
