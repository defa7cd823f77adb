import { Backoff } from '../../backoff.js';
import { systemClock, type Clock } from '../../clock.js';
import { VvuError, errorCode, errorMessage } from '../../errors.js';
import { silentLogger, type Logger } from '../../log.js';
import { native as realNative, type ListenOptions, type Native } from '../../native.js';
import { VhostUserBridge } from '../bridge.js';
import { VvuDriver } from '../driver.js';
import type { UserDriver } from '../bind.js';
import { openDevice, type DeviceSpec, type OpenOptions } from '../open-device.js';
import type { PciAccess } from '../pci-access.js';
import { BackendEndpoint } from './backend-endpoint.js';

export interface BridgeServiceOptions {
  readonly device: DeviceSpec;
  /** The backend's socket. */
  readonly socket: string;
  readonly mode: 'client' | 'server';
  readonly permissions?: ListenOptions;
  /** Take a PCI function over with this driver first, and give it back on close. */
  readonly bind?: UserDriver;
  /** Use INTx of uio_pci_generic in place of polling. */
  readonly intx?: boolean;
  readonly logger?: Logger;
  readonly native?: Native;
  readonly clock?: Clock;
  /** How a device is opened; tests give another. */
  readonly open?: (spec: DeviceSpec, options: OpenOptions) => Promise<PciAccess>;
}

/** Delays between attempts to reach the device, in milliseconds. */
const FIRST_DELAY = 50;
const LAST_DELAY = 500;

interface Attachment {
  /** Which life of the device it is. */
  readonly gone: object;
  readonly access: PciAccess;
  readonly driver: VvuDriver;
  readonly bridge: VhostUserBridge;
}

/** One bridge for as long as it is wanted, over any number of lives of its device. */
export class BridgeService {
  private readonly log: Logger;
  private readonly native: Native;
  private readonly clock: Clock;
  private readonly endpoint: BackendEndpoint;
  private readonly backoff: Backoff;
  private attachment: Attachment | undefined;
  private attempt: Promise<void> = Promise.resolve();
  private cancelTimer: (() => void) | undefined;
  private missing = false;
  private closed = false;

  constructor(private readonly options: BridgeServiceOptions) {
    this.log = options.logger ?? silentLogger;
    this.native = options.native ?? realNative;
    this.clock = options.clock ?? systemClock;
    this.backoff = new Backoff(FIRST_DELAY, LAST_DELAY, () => this.clock.random());
    const { socket: path, mode, permissions } = options;
    this.endpoint = new BackendEndpoint({
      ...{ path, mode, native: this.native, log: this.log, clock: this.clock },
      ...(permissions === undefined ? {} : { permissions }),
    });
  }

  get attached(): boolean {
    return this.attachment !== undefined;
  }

  /**
   * Resolves after the first attempt to reach the device; further ones follow by themselves.
   * @throws VvuError of scope `setup` for what an operator has to mend
   */
  async start(): Promise<void> {
    this.endpoint.open();
    try {
      await this.attach();
    } catch (error) {
      if (error instanceof VvuError && error.scope === 'setup') throw error;
      this.retry(error);
    }
  }

  /** Gives the device and the sockets back. Idempotent. */
  async close(): Promise<void> {
    this.closed = true;
    this.cancelTimer?.();
    this.detach();
    this.endpoint.close();
    await this.attempt;
  }

  private async attach(): Promise<void> {
    const { device, bind, intx = false, open = openDevice } = this.options;
    const gone: { detail?: string } = {};
    const lost = (code: string, detail: string): void => {
      if (gone.detail !== undefined) return;
      gone.detail = `${code}: ${detail}`;
      if (this.attachment?.gone === gone) this.lost(gone.detail);
    };
    const access = await open(device, {
      ...{ logger: this.log, native: this.native, intx, onClosed: lost },
      ...(bind === undefined ? {} : { bind }),
    });
    try {
      if (this.closed) throw new VvuError('CLOSED', 'peer', 'closed meanwhile');
      const driver = new VvuDriver(access, {
        logger: this.log,
        native: this.native,
        interrupts: true,
      });
      if (gone.detail !== undefined) throw new VvuError('DEVICE_GONE', 'peer', gone.detail);
      this.attachment = { gone, access, driver, bridge: this.bridge(driver, lost) };
    } catch (error) {
      access.close();
      throw error;
    }
    this.missing = false;
    this.backoff.reset();
    const { driver } = this.attachment;
    this.log.info(
      { vrings: driver.maxVhostQueues, window: driver.window.size, vectors: access.vectorCount },
      'device attached',
    );
  }

  private bridge(
    driver: VvuDriver,
    onDeviceLost: (code: string, detail: string) => void,
  ): VhostUserBridge {
    const pollKicks = driver.interrupt === undefined;
    const { endpoint, log: logger, native } = this;
    return new VhostUserBridge(driver, { endpoint, logger, native, pollKicks, onDeviceLost });
  }

  /** Not at once: it may be told from inside a call of the driver. */
  private lost(detail: string): void {
    this.log.warn({ detail }, 'device lost');
    this.schedule(0);
  }

  private retry(error: unknown): void {
    if (this.closed) return;
    if (!this.missing) {
      this.missing = true;
      const detail = { code: errorCode(error), detail: errorMessage(error) };
      this.log.info(detail, 'waiting for the device');
    }
    this.schedule(this.backoff.next());
  }

  private schedule(delay: number): void {
    if (this.closed) return;
    this.cancelTimer?.();
    this.cancelTimer = this.clock.after(delay, () => {
      this.detach();
      this.attempt = this.attach().catch((error: unknown) => this.retry(error));
    });
  }

  private detach(): void {
    const { attachment } = this;
    this.attachment = undefined;
    if (attachment === undefined) return;
    attachment.bridge.close();
    attachment.driver.close();
    attachment.access.close();
  }
}
