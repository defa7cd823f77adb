import { errorCode, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { native as realNative, type Native, type NativeSocket } from '../native.js';
import type { BackendEndpoint } from './bridge/backend-endpoint.js';
import { BackendLink } from './bridge/backend-link.js';
import { Notifiers } from './bridge/notifiers.js';
import { Pump } from './bridge/pump.js';
import type { VvuDriver } from './driver.js';
import { IsrKicks } from './isr-kicks.js';

export interface BridgeOptions {
  /** Where the backend is found; opened and closed by the caller. One bridge uses it at a time. */
  readonly endpoint: BackendEndpoint;
  readonly logger?: Logger;
  readonly native?: Native;
  /** There are no interrupts: learn of kicks from the ISR register. */
  readonly pollKicks?: boolean;
  /** The device is gone or beyond repair; called once. The caller closes the bridge then. */
  readonly onDeviceLost?: (code: string, detail: string) => void;
}

/**
 * Plays the vhost-user frontend towards a local backend that knows nothing of the device.
 *
 * The device is told that a backend is up only while there is a connection to one, and each such
 * connection serves one frontend at most: whichever side leaves, the other's connection ends too,
 * and both start afresh.
 */
export class VhostUserBridge {
  private readonly log: Logger;
  private readonly native: Native;
  private readonly polledKicks: IsrKicks | undefined;
  private readonly pump: Pump;
  private link: BackendLink | undefined;
  private closed = false;
  private failed = false;

  /** Takes the driver's events over and asks for a backend; the driver stays the caller's. */
  constructor(
    private readonly driver: VvuDriver,
    private readonly options: BridgeOptions,
  ) {
    this.log = options.logger ?? silentLogger;
    this.native = options.native ?? realNative;
    if (options.pollKicks === true) this.polledKicks = new IsrKicks(this.native, driver);
    driver.on('message', (bytes) => this.link?.request(bytes));
    driver.on('disconnected', (reason) => this.frontendLeft(reason));
    this.pump = new Pump(this.native, driver, {
      limit: () => (this.link?.blocked === true ? 0 : BATCH),
      after: () => this.afterPoll(),
      busy: () => this.polledKicks?.active === true || this.isBusy(),
      failed: (error) => this.deviceLost(error),
    });
    this.want();
  }

  /** Whether a backend is connected. */
  get hasBackend(): boolean {
    return this.link !== undefined;
  }

  /** Lets go of the backend and of the frontend. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.options.endpoint.unwant();
    this.pump.close();
    this.endLink();
    if (!this.failed) this.guarded(() => this.driver.stop('the bridge is closed'));
    this.driver.removeAllListeners();
  }

  private isBusy(): boolean {
    return this.link !== undefined && (this.link.waiting || this.link.blocked);
  }

  private want(): void {
    if (!this.closed && !this.failed) {
      this.options.endpoint.want((socket) => this.backendConnected(socket));
    }
  }

  private backendConnected(socket: NativeSocket): void {
    const link: BackendLink = new BackendLink(socket, {
      native: this.native,
      log: this.log,
      window: this.driver.window,
      notifiers: new Notifiers(this.native, this.driver, this.polledKicks),
      toFrontend: (message) => this.toFrontend(message),
      dropFrontend: (reason) => this.guarded(() => this.driver.dropFrontend(reason)),
      lost: (code, detail) => this.backendLost(link, code, detail),
    });
    this.link = link;
    this.log.info({ peer: socket.peer }, 'backend connected');
    link.start();
    this.guarded(() => this.driver.start());
    this.pump.wake();
  }

  private backendLost(link: BackendLink, code: string, detail: string): void {
    if (link !== this.link) return;
    this.log.info({ code, detail }, 'backend gone');
    this.endLink();
    this.options.endpoint.ended();
    this.guarded(() => this.driver.stop('the backend is gone'));
    this.want();
  }

  /** The backend's connection goes with the frontend's, so that nothing of this one is left in it. */
  private frontendLeft(reason: string): void {
    if (this.link === undefined) return;
    this.endLink();
    this.log.info({ reason }, 'backend connection closed');
    this.guarded(() => this.driver.stop(reason));
    this.want();
  }

  private endLink(): void {
    const { link } = this;
    this.link = undefined;
    link?.close();
    this.polledKicks?.clear();
  }

  /** Called from the backend's socket: an error of the device must not be taken for one of it. */
  private toFrontend(message: Buffer): boolean {
    const sent = this.guarded(() => this.driver.reply(message)) ?? true;
    // `flush` is needed, which no interrupt announces.
    if (!sent) this.pump.reconsider();
    return sent;
  }

  private afterPoll(): void {
    this.link?.flush();
    if (this.polledKicks?.active === true && this.polledKicks.poll()) this.driver.expectChange();
  }

  /** An error that the driver lets out means that the device is gone. */
  private guarded<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.deviceLost(error);
      return undefined;
    }
  }

  private deviceLost(error: unknown): void {
    if (this.failed) return;
    this.failed = true;
    this.endLink();
    this.options.endpoint.unwant();
    if (!this.closed) this.options.onDeviceLost?.(errorCode(error), errorMessage(error));
  }
}

/** Messages per poll. */
const BATCH = 32;
