import test from 'ava';
import { setImmediate as turn } from 'node:timers/promises';
import { VhostUserDevice } from '../../src/device/device.js';
import { VvuError } from '../../src/errors.js';
import type { TunnelBackend, TunnelSession } from '../../src/tunnel/ports.js';
import { VIRTIO_F_VERSION_1 } from '../../src/virtio/constants.js';
import type { DriverPort } from '../../src/virtio/ports.js';
import { RawRing } from '../virtio/raw-ring.js';
import { FakeFds } from './fakes.js';

const TXQ = 1;
const NOTHING = { close: () => undefined };

/** A session that takes what the guest sends. */
class FakeSession implements TunnelSession {
  onRoom: (() => void) | undefined;
  readonly messages: Uint8Array[] = [];
  start = (): void => undefined;
  roomInRxq = (): void => undefined;
  close = (): void => undefined;
  /** What happens inside of the delivery of a message. */
  effect = (): void => undefined;

  fromGuest(message: Uint8Array): boolean {
    this.messages.push(message);
    this.effect();
    return true;
  }
}

/** A device on ports that do nothing, whose txq is a ring of 8 written by hand. */
function setup() {
  const ring = new RawRing(8);
  const wanted: boolean[] = [];
  const reasons: string[] = [];
  let connect: (session: TunnelSession) => void = () => undefined;
  const endpoint = {
    attach: (_: TunnelBackend, onSession: typeof connect) => (connect = onSession),
    want: (is: boolean) => wanted.push(is),
    close: () => undefined,
  };
  const device = new VhostUserDevice({
    native: new FakeFds().native,
    host: {
      doorbells: { bind: () => NOTHING },
      kicks: { vectorCount: 8, bind: () => NOTHING },
      window: {
        size: 2 ** 20,
        preset: undefined,
        dynamic: false,
        apply: () => Promise.resolve(),
      },
    },
    endpoint,
    uuid: Buffer.alloc(16),
  });
  const port: DriverPort = {
    memory: ring.memory,
    notifyQueue: () => undefined,
    notifyConfig: () => undefined,
    needsReset: (reason) => reasons.push(reason),
  };
  device.attach(port);
  device.acceptFeatures(VIRTIO_F_VERSION_1);
  device.enableQueue({ ...ring.config, index: TXQ });
  device.start();
  for (let i = 0; i < 8; i++) {
    ring.descriptor(i, 0x4000n, 12, 0);
    ring.availEntry(i, i);
  }
  const slaveUp = (): void => device.config.write(0, Buffer.from([1, 0, 0, 0]));
  return { device, ring, wanted, reasons, slaveUp, connect: (s: TunnelSession) => connect(s) };
}

test('a driver that adds to txq as fast as it is taken from holds up nobody else', async (t) => {
  const { device, ring, slaveUp, connect, reasons } = setup();
  slaveUp();
  const session = new FakeSession();
  connect(session);
  // Another CPU of the guest: whenever buffers are returned, it makes them available again.
  const storeU16 = ring.memory.storeU16.bind(ring.memory);
  let refills = 20;
  ring.memory.storeU16 = (iova, value) => {
    storeU16(iova, value);
    if (iova === 0x3002 && refills-- > 0) ring.availIndex((value + 8) & 0xffff);
  };
  ring.availIndex(8);
  device.kick(TXQ);
  t.true(session.messages.length <= 8, 'one queue full at a time');
  let turns = 0;
  for (; session.messages.length < 168; turns++) await turn();
  t.true(turns >= 20, 'with a turn of the loop between two');
  t.deepEqual(reasons, []);
  // Nothing goes on behind a reset.
  refills = Infinity;
  ring.availIndex(176);
  device.kick(TXQ);
  device.reset();
  const { length } = session.messages;
  await turn();
  await turn();
  t.is(session.messages.length, length);
});

test('a txq that is broken when SLAVE_UP is set: no frontend is wanted', (t) => {
  const { device, ring, wanted, reasons, slaveUp } = setup();
  ring.availIndex(5000);
  slaveUp();
  t.is(device.state, 'down');
  t.is(reasons.length, 1);
  t.false(wanted.includes(true));
});

test('a message that the session finds broken takes the link down once', (t) => {
  const { device, ring, reasons, slaveUp, connect, wanted } = setup();
  slaveUp();
  const session = new FakeSession();
  session.effect = () => {
    throw new VvuError('BAD_GUEST_MESSAGE', 'device', 'no message');
  };
  connect(session);
  ring.availIndex(8);
  device.kick(TXQ);
  device.kick(TXQ);
  t.is(session.messages.length, 1);
  t.deepEqual(reasons, ['no message']);
  t.deepEqual(wanted, [true, false]);
  t.is(device.config.status, 0);
});
