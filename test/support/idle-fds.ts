import type { DeviceProcess } from '../vm/device-process.js';

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The number of fds that a device has open between two connections. */
export class IdleFds {
  count = 0;

  constructor(private readonly device: DeviceProcess) {}

  /** Takes the present number, once it stays the same for a second. */
  async measure(): Promise<void> {
    let same = 0;
    while (same < 5) {
      await pause(200);
      const { descriptors } = this.device;
      same = descriptors === this.count ? same + 1 : 0;
      this.count = descriptors;
    }
  }

  /** The number now; the device gets 10 s to come back to what was measured. */
  async settled(): Promise<number> {
    const deadline = Date.now() + 10_000;
    while (this.device.descriptors !== this.count && Date.now() < deadline) await pause(10);
    return this.device.descriptors;
  }
}
