/**
 * A vhost-user backend in TypeScript: a network card whose every packet comes back on the same
 * queue pair. Run it on a host against `vvu device`, or inside the appliance VM:
 *
 *     node dist/examples/echo-backend.js vfio-user:/run/vvu/appliance.sock
 *     node dist/examples/echo-backend.js 0000:00:05.0
 * In a project of your own the imports are from 'virtio-vhost-user/guest'.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  VhostUserBackend,
  VvuDriver,
  openDevice,
  parseDeviceSpec,
  readChain,
  writeChain,
  type BackendDevice,
  type BackendQueue,
} from '../src/guest/index.js';

/** virtio-net (virtio 1.3 §5.1): ring 2n is what the frontend receives, 2n + 1 what it sends. */
const QUEUE_PAIRS = 4;
const VIRTIO_NET_F_MQ = 1n << 22n;
/** struct virtio_net_hdr of VERSION_1; its last field is le16 num_buffers. */
const HEADER_BYTES = 12;
const MAX_PACKET = 65_536;

class EchoDevice implements BackendDevice {
  readonly features = VIRTIO_NET_F_MQ;
  readonly protocolFeatures = 0n;
  readonly queueCount = 2 * QUEUE_PAIRS;
  readonly queueNum = QUEUE_PAIRS;
  /** A backend that is started again finds in the rings where the last one stopped. */
  readonly inOrder = true;
  packets = 0;
  private readonly queues = new Map<number, BackendQueue>();

  featuresAccepted(features: bigint): void {
    console.log(`frontend accepted features 0x${features.toString(16)}`);
  }

  queueStarted(queue: BackendQueue): void {
    queue.ring.disableKicks(); // We poll.
    this.queues.set(queue.index, queue);
  }

  queueStopped(queue: BackendQueue): void {
    this.queues.delete(queue.index);
  }

  /** Returns what the frontend has sent. @returns how many packets there were */
  poll(): number {
    let work = 0;
    for (let ring = 1; ring < this.queueCount; ring += 2) {
      const [receive, transmit] = [this.queues.get(ring - 1), this.queues.get(ring)];
      if (transmit?.enabled !== true || transmit.failed || receive?.enabled !== true) continue;
      try {
        work += echo(receive, transmit);
      } catch (error) {
        transmit.fail(error); // The frontend broke its ring: not served until it sets it up anew.
      }
    }
    this.packets += work;
    return work;
  }
}

function echo(receive: BackendQueue, transmit: BackendQueue): number {
  let count = 0;
  for (let sent = transmit.ring.pop(); sent !== undefined; sent = transmit.ring.pop()) {
    const packet = readChain(transmit.memory, sent, MAX_PACKET);
    transmit.ring.push(sent, 0);
    count++;
    const room = receive.ring.pop();
    if (room === undefined) continue; // No buffer: as in any network, the packet is lost.
    packet.fill(0, 0, HEADER_BYTES);
    packet.writeUInt16LE(1, HEADER_BYTES - 2);
    receive.ring.push(room, writeChain(receive.memory, room, packet));
  }
  if (count > 0) [receive, transmit].forEach((queue) => queue.flush());
  return count;
}

const access = await openDevice(parseDeviceSpec(process.argv[2] ?? ''));
const driver = new VvuDriver(access);
const device = new EchoDevice();
new VhostUserBackend(driver, device);
driver.on('disconnected', (reason) => console.log(`${reason} after ${device.packets} packets`));
driver.start();
console.log('ready: a frontend may connect');

let running = true;
process.once('SIGINT', () => (running = false)).once('SIGTERM', () => (running = false));
while (running) {
  if (driver.poll() + device.poll() === 0) await nextTurn();
}
driver.close();
access.close();
