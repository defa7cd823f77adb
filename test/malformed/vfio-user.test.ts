import test from 'ava';
import { DeviceProcess } from '../vm/device-process.js';
import { IdleFds } from '../support/idle-fds.js';
import { RawPeer, TestFds } from './raw-peer.js';
import { message, version } from './vfio-user-bytes.js';
import { VFIO_USER_INPUTS, type VfioUserInput } from './vfio-user-inputs.js';

const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M' });
test.after.always(() => device.close());

const FRAMING = { headerSize: 16, lengthOffset: 4, lengthIncludesHeader: true };
const GET_INFO = message(4, Buffer.from('10000000000000000000000000000000', 'hex'));
/** argsz 32, read and write, 4 pages at 1 MiB, without an fd: what "exists" means in the table. */
const MAP = message(
  2,
  Buffer.from(
    '2000000003000000' + '0000000000000000' + '0000100000000000' + '0040000000000000',
    'hex',
  ),
);

async function connect(negotiated: boolean): Promise<RawPeer> {
  const peer = new RawPeer(device.vfioUser, FRAMING);
  if (!negotiated) return peer;
  for (const request of [version('{"capabilities":{"max_msg_fds":16}}'), MAP]) {
    peer.send(request);
    const reply = await peer.next();
    if (reply?.readUInt32LE(12) !== 0) throw new Error('negotiation failed');
  }
  return peer;
}

/** A connection that works from the first message to the last. */
async function healthy(): Promise<boolean> {
  const peer = await connect(true);
  peer.send(GET_INFO);
  const reply = await peer.next();
  peer.close();
  return reply?.readUInt32LE(20) === 3; // RESET | PCI
}

/** Open fds of the device without any connection. */
const idle = new IdleFds(device);
test.before(async (t) => {
  t.true(await healthy());
  await idle.measure();
});

async function outcome(peer: RawPeer, input: VfioUserInput): Promise<string | number> {
  if (input.outcome === 'nothing') {
    // Whatever comes must be the answer to the next request, not to this one.
    if (input.fresh) return 'nothing';
    peer.send(GET_INFO);
    const reply = await peer.next();
    return reply?.readUInt16LE(2) === 4 ? 'nothing' : 'answered';
  }
  const reply = await peer.next();
  if (reply === undefined) return 'closed';
  return (reply.readUInt32LE(8) & 0x20) !== 0 ? reply.readUInt32LE(12) : 'success';
}

for (const input of VFIO_USER_INPUTS) {
  test.serial(`vfio-user: ${input.name}`, async (t) => {
    const peer = await connect(input.fresh !== true);
    t.teardown(() => peer.close());
    const make = new TestFds();
    peer.send(input.bytes, input.fds?.(make) ?? []);
    make.close();
    t.is(await outcome(peer, input), input.outcome);
    peer.close();
    t.is(await idle.settled(), idle.count, 'open fds of the device');
    t.true(await healthy(), 'the next client is served');
  });
}

test.serial('the names of the table are distinct', (t) => {
  t.is(new Set(VFIO_USER_INPUTS.map(({ name }) => name)).size, VFIO_USER_INPUTS.length);
});
