import { VvuError, errorCode, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import {
  decodeFrame,
  encodeFrame,
  frontendMessage,
  u64,
  type Frame,
  type FrontendMessageName,
  type MessageDescriptor,
} from '../vhost-user/index.js';
import type { BackendDevice } from './backend-device.js';
import { BackendRequests } from './backend-requests.js';
import { BackendSession } from './backend-session.js';
import type { VvuDriver } from './driver.js';
import type { Doorbell } from './notifications.js';

export interface BackendOptions {
  readonly logger?: Logger;
}

/**
 * A vhost-user backend on the driver: answers the frontend's messages and runs the rings of a
 * device model. A bad request is refused, with an error where the frontend asked for a reply; a
 * message that cannot be answered at all ends the connection.
 */
export class VhostUserBackend {
  /** Requests to the frontend: a changed configuration space, for example. */
  readonly requests: BackendRequests;
  private session: BackendSession | undefined;
  private readonly log: Logger;
  /** Doorbells are registers of the device and outlive a connection. */
  private readonly doorbells = new Map<number, Doorbell>();
  private readonly driver: VvuDriver;

  /** Takes the driver's events over; the caller goes on calling the driver's `poll`. */
  constructor(
    driver: VvuDriver,
    private readonly device: BackendDevice,
    options: BackendOptions = {},
  ) {
    if (device.queueCount > driver.maxVhostQueues) {
      throw new VvuError(
        'TOO_MANY_QUEUES',
        'setup',
        `${device.queueCount} vrings on a device with ${driver.maxVhostQueues}`,
      );
    }
    this.driver = driver;
    this.log = options.logger ?? silentLogger;
    this.requests = new BackendRequests({
      send: (message) => driver.request(message),
      acknowledged: () => this.session?.acknowledges() === true,
      log: this.log,
    });
    driver.on('connected', () => this.connected());
    driver.on('disconnected', () => this.disconnected());
    driver.on('message', (bytes) => this.message(bytes));
  }

  /** Rings that are running. */
  get running(): readonly number[] {
    return this.session?.running ?? [];
  }

  private connected(): void {
    this.disconnected();
    this.session = new BackendSession(this.device, {
      window: this.driver.window,
      doorbell: (vring) => this.doorbell(vring),
      logDoorbell: () => this.driver.logDoorbell(),
      channelOpened: () => this.requests.open(),
      ringFailed: (vring, error) =>
        this.log.warn({ vring, code: errorCode(error), error: errorMessage(error) }, 'ring failed'),
    });
  }

  private disconnected(): void {
    this.session?.end();
    this.session = undefined;
    this.requests.close('the frontend left');
  }

  private doorbell(vring: number): Doorbell {
    let doorbell = this.doorbells.get(vring);
    if (doorbell === undefined) {
      doorbell = this.driver.doorbell(vring);
      this.doorbells.set(vring, doorbell);
    }
    return doorbell;
  }

  private message(bytes: Buffer): void {
    const { session } = this;
    if (session === undefined) return;
    let frame: Frame;
    try {
      frame = decodeFrame(bytes, 'LE');
    } catch (error) {
      this.drop(errorMessage(error));
      return;
    }
    if (frame.reply) {
      this.requests.reply(frame);
      return;
    }
    const descriptor = frontendMessage(frame.request);
    try {
      const value = this.handle(session, frame, descriptor);
      if (repliesItself(descriptor)) {
        this.send(frame.request, descriptor.replyPayload.encode(value, 'LE'));
      } else if (frame.needReply && session.acknowledges()) {
        this.send(frame.request, u64.encode(0n, 'LE'));
      }
    } catch (error) {
      this.refuse(session, frame, descriptor, error);
    }
  }

  private handle(
    session: BackendSession,
    frame: Frame,
    descriptor: MessageDescriptor | undefined,
  ): unknown {
    if (descriptor === undefined) {
      throw new VvuError('UNKNOWN_REQUEST', 'request', `request ${frame.request} is unknown`);
    }
    const feature = descriptor.needs.protocolFeature;
    const offered = session.offeredProtocolFeatures;
    const handler = session.handlers[descriptor.name as FrontendMessageName] as
      ((value: unknown) => unknown) | undefined;
    if (
      handler === undefined ||
      (feature !== undefined && (offered & (1n << BigInt(feature))) === 0n)
    ) {
      throw new VvuError('NOT_OFFERED', 'request', `${descriptor.name} was not offered`);
    }
    if (this.log.isLevelEnabled('trace')) {
      this.log.trace({ message: descriptor.name, size: frame.size }, 'request');
    }
    return handler(descriptor.request.decode(frame.payload, 'LE'));
  }

  private refuse(
    session: BackendSession,
    frame: Frame,
    descriptor: MessageDescriptor | undefined,
    error: unknown,
  ): void {
    // What is not an error of the frontend is one of ours, or the device is gone.
    if (!(error instanceof VvuError) || error.scope === 'bug') throw error;
    const name = descriptor?.name ?? frame.request;
    this.log.warn({ message: name, code: error.code, error: error.message }, 'request refused');
    if (repliesItself(descriptor)) this.drop(`${name} could not be answered: ${error.message}`);
    else if (frame.needReply && session.acknowledges()) {
      this.send(frame.request, u64.encode(1n, 'LE'));
    }
  }

  private send(request: number, payload: Buffer): void {
    // The driver takes a message only when there is room for its reply.
    this.driver.reply(encodeFrame({ request, reply: true }, payload, 'LE'));
  }

  private drop(reason: string): void {
    this.log.warn({ reason }, 'frontend is dropped');
    this.driver.dropFrontend(reason);
  }
}

/**
 * Whether a message of its own answers the request. The device has taken its fd, and passes what is
 * answered only with one (SET_LOG_BASE) on only if it had one.
 */
function repliesItself(descriptor: MessageDescriptor | undefined): descriptor is MessageDescriptor {
  return descriptor !== undefined && descriptor.reply !== 'none';
}
