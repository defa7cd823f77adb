/** Memory of a guest. Always shared, as vfio-user and vhost-user need it. */
export interface GuestMemory {
  /** As QEMU writes sizes, for example `256M`. */
  readonly size: string;
  /** A file, made if absent, in place of an anonymous memfd: a window's preset file. */
  readonly path?: string;
}

export interface MachineOptions {
  readonly memory: GuestMemory;
  /**
   * Puts an Intel IOMMU with caching-mode before all devices, `device-iotlb` one that serves
   * devices with ATS.
   */
  readonly iommu?: boolean | 'device-iotlb';
  readonly cpus?: number;
  /** What of the memory is below 4 GiB; the rest is at 4 GiB. QEMU's own limit is 2 to 2.75 GiB. */
  readonly below4G?: string;
}

/**
 * A q35 machine under TCG with no devices but those that are asked for.
 *
 * The first serial port is the console, on standard output; the second is the probe's.
 */
export function machineArguments(options: MachineOptions): string[] {
  const { memory, iommu = false, cpus = 1, below4G } = options;
  const backend =
    memory.path === undefined
      ? { 'qom-type': 'memory-backend-memfd' }
      : { 'qom-type': 'memory-backend-file', 'mem-path': memory.path };
  const args = ['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg'];
  // Interrupt remapping needs the userspace IOAPIC.
  const remapping = iommu !== false ? ',kernel-irqchip=split' : '';
  const limit = below4G === undefined ? '' : `,max-ram-below-4g=${below4G}`;
  args.push('-machine', `q35,memory-backend=ram${remapping}${limit}`);
  args.push('-m', memory.size, '-smp', String(cpus));
  args.push(
    '-object',
    JSON.stringify({ ...backend, id: 'ram', share: true, size: bytes(memory.size) }),
  );
  // Must come first: QEMU gives it only the devices after it.
  const mode = iommu === 'device-iotlb' ? 'device-iotlb=on' : 'caching-mode=on';
  if (iommu !== false) args.push('-device', `intel-iommu,intremap=on,${mode}`);
  return args;
}

/** A device, in the JSON form that every property fits into. */
export function deviceArguments(driver: string, properties: object = {}): string[] {
  return ['-device', JSON.stringify({ driver, ...properties })];
}

/** A device served over vfio-user by the process that listens at `path`. */
export function vfioUserArguments(path: string, properties: object = {}): string[] {
  return deviceArguments('vfio-user-pci', { socket: { type: 'unix', path }, ...properties });
}

/** A device of any type whose vhost-user backend is at `path`, and that waits for it at its start. */
export function vhostUserArguments(
  driver: string,
  path: string,
  properties: object = {},
): string[] {
  const socket = ['-chardev', `socket,id=${driver},path=${path}`];
  return [...socket, ...deviceArguments(driver, { chardev: driver, ...properties })];
}

/** A disk of QEMU's own, whose contents are those of a file. */
export function fileDiskArguments(id: string, path: string): string[] {
  const file = JSON.stringify({ driver: 'file', 'node-name': id, filename: path });
  return ['-blockdev', file, ...deviceArguments('virtio-blk-pci', { drive: id })];
}

export interface VhostUserNetOptions {
  readonly id: string;
  readonly path: string;
  /** QEMU listens, the backend connects. */
  readonly server?: boolean;
  readonly queuePairs?: number;
  /** Seconds between attempts to connect again after the backend left. */
  readonly reconnect?: number;
  /** More properties of the device. */
  readonly properties?: object;
}

/** A virtio-net device whose vhost-user backend is at `path`. */
export function vhostUserNetArguments(options: VhostUserNetOptions): string[] {
  const { id, path, server = false, queuePairs = 1, reconnect, properties } = options;
  const mode = server ? ',server=on,wait=off' : '';
  const retry = reconnect === undefined ? '' : `,reconnect-ms=${reconnect * 1000}`;
  return [
    '-chardev',
    `socket,id=${id}-socket,path=${path}${mode}${retry}`,
    '-netdev',
    `vhost-user,id=${id}-net,chardev=${id}-socket,queues=${queuePairs}`,
    ...deviceArguments('virtio-net-pci', {
      id,
      netdev: `${id}-net`,
      mq: queuePairs > 1,
      vectors: 2 * queuePairs + 2,
      // No network boot: its firmware is not unpacked, and would only cost time.
      romfile: '',
      ...properties,
    }),
  ];
}

/** `256M` in bytes. */
export function bytes(size: string): number {
  const [, digits, unit] = /^(\d+)([KMG]?)$/.exec(size) ?? [];
  if (digits === undefined) throw new Error(`not a size: ${size}`);
  const shift = { K: 10, M: 20, G: 30 }[unit ?? ''] ?? 0;
  return Number(digits) * 2 ** shift;
}
