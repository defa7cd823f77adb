/**
 * A hypervisor with nothing in it but RAM, an interrupt controller and one PCI function: the device.
 * Its "guest" is a few loads and stores. With a frontend's socket as its argument it prints what the
 * guest sees until a frontend has come and gone:
 *
 *     node dist/examples/plugin.js /run/vvu/frontend.sock
 */
import { createVirtioVhostUserDevice } from 'virtio-vhost-user/in-process';

const RAM_BYTES = 16 << 20;
const WINDOW_BYTES = 64 << 20;
const [path = '/tmp/frontend.sock'] = process.argv.slice(2);

// The hypervisor's side: ports.
const ram = new Uint8Array(RAM_BYTES);
const holds = (address: number, length: number) => address + length <= RAM_BYTES;
const device = createVirtioVhostUserDevice({
  vhostUserPath: path,
  memory: {
    read(address, target) {
      if (!holds(address, target.length)) return false;
      target.set(ram.subarray(address, address + target.length));
      return true;
    },
    write(address, bytes) {
      if (!holds(address, bytes.length)) return false;
      ram.set(bytes, address);
      return true;
    },
  },
  interrupts: {
    msix: (vector, { address, data }) =>
      console.log(`MSI-X vector ${vector}: store ${data} to 0x${address.toString(16)}`),
    intx: (asserted) => console.log(`INTA ${asserted ? 'raised' : 'lowered'}`),
  },
  // No `map`: this guest's accesses to the frontend's memory are trapped, as all its accesses are.
  window: { size: WINDOW_BYTES },
});
device.on('frontend-connected', () => console.log('frontend connected'));
device.on('frontend-disconnected', (code, detail) =>
  console.log(`frontend gone: ${code}, ${detail}`),
);
device.on('memory-table', (regions) => console.log(`the window shows ${regions.length} region(s)`));
device.on('needs-reset', (reason) => console.log(`the driver must reset the device: ${reason}`));
device.on('error', (error) => console.error(`the hypervisor failed: ${error.message}`));

// The hypervisor's bus: an access of the guest goes to the BAR that the guest has placed there.
function decode(address: bigint): { bar: number; offset: number } | undefined {
  for (const { index: bar, size } of device.bars) {
    const start = device.barAddress(bar);
    if (start !== undefined && address >= start && address < start + BigInt(size)) {
      return { bar, offset: Number(address - start) };
    }
  }
  return undefined;
}
function load(address: bigint, width: number): number {
  const bytes = Buffer.alloc(width, 0xff);
  const place = decode(address);
  if (place) device.barRead(place.bar, place.offset, bytes);
  return bytes.readUIntLE(0, width);
}
function store(address: bigint, width: number, value: number): void {
  const bytes = Buffer.alloc(width);
  bytes.writeUIntLE(value, 0, width);
  const place = decode(address);
  if (place) device.barWrite(place.bar, place.offset, bytes);
}

// The guest: firmware sizes and places BAR 0, and lets it be decoded.
const config = Buffer.alloc(4);
device.configRead(0, config);
console.log(`PCI function ${config.toString('hex')}, uuid ${device.uuid}`);
device.configWrite(0x10, Buffer.alloc(4, 0xff));
device.configRead(0x10, config);
console.log(`BAR 0 has ${2 ** 32 - config.readUInt32LE()} bytes`);
device.configWrite(0x10, Buffer.from([0, 0, 0, 0xe0]));
device.configWrite(0x04, Buffer.from([0x06, 0x00]));
const registers = 0xe000_0000n;
// A driver without queues: virtio's steps to DRIVER_OK, then SLAVE_UP, "the backend is up".
const [featureSelect, features, status, linkStatus, isr] = [0x08n, 0x0cn, 0x14n, 0x2000n, 0x1000n];
for (const bits of [0x00, 0x01, 0x03]) store(registers + status, 1, bits);
store(registers + featureSelect, 4, 1);
store(registers + features, 4, 1); // VERSION_1
for (const bits of [0x0b, 0x0f]) store(registers + status, 1, bits);
store(registers + linkStatus, 4, 1);
console.log(`vrings: ${load(registers + linkStatus + 4n, 4)}, waiting for a frontend on ${path}`);

// It polls its ISR once in a while, as it has no interrupt handler.
const poll = setInterval(() => {
  if (load(registers + isr, 1) === 0) return;
  const link = load(registers + linkStatus, 4);
  console.log(`guest: a change, link status ${link}`);
  if (link !== 0) return;
  clearInterval(poll);
  void device.close().then(() => console.log('closed'));
}, 10);
