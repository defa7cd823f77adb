import { guestImage, type GuestImage } from './guest-image.js';
import { requirePackages } from './packages.js';
import { withPrograms } from './program-archive.js';

export const MKE2FS = '/sbin/mke2fs';

/** The guest of `guestImage` with what a frontend does to its disk: busybox makes ext2 only. */
export async function frontendImage(): Promise<GuestImage> {
  await requirePackages(['e2fsprogs']);
  return withPrograms('guest-frontend', await guestImage(), [MKE2FS]);
}
