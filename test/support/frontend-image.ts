import { guestImage, type GuestImage } from './guest-image.js';
import { requirePackages } from './packages.js';
import { withPrograms } from './program-archive.js';

export const MKE2FS = '/sbin/mke2fs';
export const ETHTOOL = '/sbin/ethtool';

/**
 * The guest of `guestImage` with what a frontend does to its disk and its interface: busybox makes
 * ext2 only, and has no ethtool.
 */
export async function frontendImage(): Promise<GuestImage> {
  await requirePackages(['e2fsprogs', 'ethtool']);
  return withPrograms('guest-frontend', await guestImage(), [MKE2FS, ETHTOOL]);
}
