/** Reaches a device by what an operator calls it, in a guest or over vfio-user. */
import { VvuError } from '../errors.js';
import { noIntx, openGuestDevice, type FindOptions } from './find-device.js';
import type { PciAccess } from './pci-access.js';
import { VfioUserPciAccess } from './vfio-user-access.js';

/** `vfio-user:PATH`, a PCI address such as `0000:00:05.0`, or `uuid:` and a UUID. */
export type DeviceSpec = string;

export interface OpenOptions extends FindOptions {
  /** The device is gone; every further access throws. For vfio-user: a function does not go. */
  readonly onClosed?: (reason: string, detail: string) => void;
}

const PCI_ADDRESS = /^(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/i;
const UUID = /^uuid:[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i;
const VFIO_USER = 'vfio-user:';

/** Checks the form alone. @throws VvuError `BAD_DEVICE`, scope `setup` */
export function parseDeviceSpec(text: string): DeviceSpec {
  const path = text.startsWith(VFIO_USER) && text.length > VFIO_USER.length;
  if (path || PCI_ADDRESS.test(text) || UUID.test(text)) return text;
  throw new VvuError(
    'BAD_DEVICE',
    'setup',
    `'${text}' is no device: vfio-user:PATH, a PCI address such as 0000:00:05.0, or uuid:UUID`,
  );
}

/**
 * Opens the device; the caller owns the access object.
 * @throws VvuError of scope `setup` for what waiting does not mend, other errors (`ENOENT`,
 * `ECONNREFUSED`) while the device is not there
 */
export async function openDevice(spec: DeviceSpec, options: OpenOptions = {}): Promise<PciAccess> {
  if (!spec.startsWith(VFIO_USER)) return openGuestDevice(spec, options);
  if (options.intx === true) throw noIntx(spec);
  return VfioUserPciAccess.connect(spec.slice(VFIO_USER.length), options);
}
