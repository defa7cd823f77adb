import { once } from 'node:events';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEchoBackend } from '../support/echo-backend.js';
import { startFileDaemon } from '../support/file-daemon.js';
import { installedQemu, qemuRoot, type RootedCommand } from '../support/qemu-root.js';
import { startStorageDaemon } from '../support/storage-daemon.js';
import { VvuProcess } from '../support/vvu-process.js';
import { vhostUserArguments, vhostUserNetArguments } from '../vm/qemu-arguments.js';

/** What a recording needs to know of the device that it runs behind. */
export interface Place {
  /** The device's vfio-user socket. */
  readonly vfioUser: string;
  /** A folder for files and sockets. */
  readonly folder: string;
}

/** A device of QEMU's, the backend that serves it, and what the guest does with it. */
export interface RecordedDevice {
  /** Starts the backend; resolves with how to end it. */
  backend(place: Place): Promise<() => Promise<void>>;
  /** QEMU's arguments for a frontend that connects to `socket`. */
  args(socket: string, properties: object): string[];
  /** Shell commands in the guest. */
  readonly commands: readonly string[];
}

/** A vhost-user backend of its own behind `vvu bridge`. */
async function bridged(
  { vfioUser }: Place,
  socket: string,
  daemon: Awaited<ReturnType<typeof startStorageDaemon>>,
): Promise<() => Promise<void>> {
  const args = ['bridge', '--device', `vfio-user:${vfioUser}`, '--socket', socket];
  const bridge = await VvuProcess.start(args);
  return async () => {
    await bridge.kill();
    if (daemon.kill('SIGKILL')) await once(daemon, 'exit');
  };
}

/** Queues, or queue pairs. */
const QUEUES = 2;
const DISK_BYTES = 16 * 2 ** 20;

/** By the last part of the transcript's name. */
export const recordedDevices: Readonly<Record<string, RecordedDevice>> = {
  'net-2q': {
    backend: async ({ vfioUser }) => {
      const backend = await startEchoBackend(vfioUser, { queuePairs: QUEUES });
      return () => backend.stop();
    },
    args: (path, properties) =>
      vhostUserNetArguments({ id: 'net', path, queuePairs: QUEUES, properties }),
    commands: [
      'modprobe -a virtio_pci virtio_net',
      'ifconfig eth0 192.0.2.1 netmask 255.255.255.0 up',
      'arp -s 192.0.2.2 02:00:00:00:00:02',
      // The echo sends the packets back as they are, which is no answer, but counts as received.
      'ping -q -c 5 192.0.2.2 > /dev/null || true',
      'test $(cat /sys/class/net/eth0/statistics/rx_packets) -ge 5',
    ],
  },
  blk: {
    backend: async (place) => {
      const disk = join(place.folder, 'disk');
      const socket = join(place.folder, 'backend');
      await writeFile(disk, '');
      await truncate(disk, DISK_BYTES);
      return bridged(place, socket, await startStorageDaemon(disk, socket, QUEUES));
    },
    args: (socket, properties) =>
      vhostUserArguments('vhost-user-blk-pci', socket, { 'num-queues': QUEUES, ...properties }),
    commands: [
      'modprobe -a virtio_pci virtio_blk',
      `test $(($(cat /sys/block/vda/size) * 512)) -eq ${DISK_BYTES}`,
      'echo written | dd of=/dev/vda bs=512 seek=7 conv=sync,fsync',
      'echo 3 > /proc/sys/vm/drop_caches',
      'dd if=/dev/vda bs=512 skip=7 count=1 | grep -q written',
      // A frontend that caches writes tells the backend by SET_CONFIG.
      'echo "write through" > /sys/block/vda/cache_type',
    ],
  },
  fs: {
    backend: async (place) => {
      const shared = join(place.folder, 'shared');
      const socket = join(place.folder, 'backend');
      await mkdir(shared);
      await writeFile(join(shared, 'file'), 'of the host\n');
      return bridged(place, socket, await startFileDaemon(shared, socket));
    },
    args: (socket, properties) =>
      vhostUserArguments('vhost-user-fs-pci', socket, { tag: 'shared', ...properties }),
    commands: [
      'modprobe -a virtio_pci virtiofs',
      'mkdir /shared',
      'mount -t virtiofs shared /shared',
      'grep -q "of the host" /shared/file',
      'umount /shared',
    ],
  },
};

/** A QEMU, and what its devices need. */
export interface RecordedQemu {
  readonly command: () => Promise<RootedCommand>;
  readonly properties: object;
}

/** By the first part of the transcript's name. */
export const recordedQemus: Readonly<Record<string, RecordedQemu>> = {
  // Without KVM and with MSI-X, 7.2 crashes in msix_set_vector_notifiers() when vhost starts.
  'qemu-7.2': { command: installedQemu, properties: { vectors: 0 } },
  'qemu-11.1': { command: qemuRoot, properties: {} },
};
