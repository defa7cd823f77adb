/** Opens a PCI function through VFIO, by whichever interface the kernel has. */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import type { SysfsFunction } from './sysfs-function.js';

/** An open function, and the address space of its DMA. All calls are synchronous. */
export interface VfioDevice {
  /** Owned by this object. */
  readonly fd: number;
  /** `iommufd`, or `container` for the older interface. */
  readonly interface: 'iommufd' | 'container';
  mapDma(memory: NativeMemory, iova: number): void;
  unmapDma(iova: number, size: number): void;
  /** Gives the function back; the kernel resets it and unmaps all. */
  close(): void;
}

/**
 * Prefers the device's own file with iommufd (Linux 6.6), else container and group.
 * @throws VvuError of scope `setup`, with one line that says what is missing
 */
export function openVfioDevice(native: Native, device: SysfsFunction): VfioDevice {
  if (device.driver !== 'vfio-pci') {
    throw new VvuError('NOT_BOUND', 'setup', `${device.address} is not bound to vfio-pci`);
  }
  const { vfioDevice, paths } = device;
  const cdev = vfioDevice === undefined ? undefined : join(paths.dev, 'vfio/devices', vfioDevice);
  try {
    if (cdev !== undefined && existsSync(cdev) && existsSync(join(paths.dev, 'iommu'))) {
      return openIommufd(native, join(paths.dev, 'iommu'), cdev);
    }
    return openGroup(native, device);
  } catch (error) {
    throw explain(device, error);
  }
}

function openIommufd(native: Native, iommu: string, cdev: string): VfioDevice {
  const fds: number[] = [];
  try {
    const iommufd = openFile(iommu);
    fds.push(iommufd);
    const fd = openFile(cdev);
    fds.push(fd);
    const ioas = native.iommufdAllocate(iommufd);
    native.iommufdAttach(fd, iommufd, ioas);
    return {
      fd,
      interface: 'iommufd',
      mapDma: (memory, iova) => native.iommufdMap(iommufd, ioas, memory, iova),
      unmapDma: (iova, size) => native.iommufdUnmap(iommufd, ioas, iova, size),
      close: () => closeAll(fds),
    };
  } catch (error) {
    closeAll(fds);
    throw error;
  }
}

function openGroup(native: Native, device: SysfsFunction): VfioDevice {
  const { dev } = device.paths;
  const group = device.iommuGroup;
  if (group === undefined) {
    throw new VvuError(
      'NO_IOMMU',
      'setup',
      `${device.address} has no IOMMU in front of it: give the VM one, or use --bind uio_pci_generic`,
    );
  }
  const fds: number[] = [];
  try {
    const container = native.vfioContainer(join(dev, 'vfio/vfio'));
    fds.push(container);
    fds.push(native.vfioGroup(container, join(dev, 'vfio', group)));
    const fd = native.vfioGroupDevice(fds[1] ?? -1, device.address);
    fds.push(fd);
    return {
      fd,
      interface: 'container',
      mapDma: (memory, iova) => native.vfioMapDma(container, memory, iova),
      unmapDma: (iova, size) => native.vfioUnmapDma(container, iova, size),
      close: () => closeAll(fds),
    };
  } catch (error) {
    closeAll(fds);
    throw error;
  }
}

function openFile(path: string): number {
  return openSync(path, constants.O_RDWR);
}

/** The device first: the kernel asks for it before the last reference of its container goes. */
function closeAll(fds: number[]): void {
  for (const fd of fds.splice(0).reverse()) closeSync(fd);
}

function explain(device: SysfsFunction, error: unknown): unknown {
  if (error instanceof VvuError) return error;
  const hint =
    {
      EBUSY: 'another process uses it',
      EACCES: 'no permission for its file in /dev/vfio',
      EPERM: 'the IOMMU has no interrupt remapping, or the limit of locked memory is too low',
      NOT_VIABLE: 'bind the other functions of its IOMMU group to vfio-pci too',
      ENOENT: 'the module vfio-pci or vfio_iommu_type1 is not loaded',
    }[errorCode(error)] ?? 'VFIO refuses it';
  return new VvuError(
    'VFIO_OPEN',
    'setup',
    `cannot open ${device.address}: ${hint} (${errorMessage(error)})`,
    { cause: error },
  );
}
