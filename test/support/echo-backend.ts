import { NetEcho } from '../../src/backends/net-echo.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { decodeFrame, describeFrame } from '../../src/vhost-user/index.js';

/** A poll-mode echo backend behind a device, as an appliance VM would run one. */
export interface EchoBackend {
  readonly access: VfioUserPciAccess;
  readonly driver: VvuDriver;
  readonly echo: NetEcho;
  /** Messages that came through the tunnel, as text. */
  readonly messages: readonly string[];
  /** Ends the loop, resets the device and leaves it. Idempotent. */
  stop(): Promise<void>;
}

export interface EchoBackendOptions {
  readonly queuePairs?: number;
  /** False: foreign memory is trapped, as under a client without the extension. */
  readonly regionRemap?: boolean;
}

/** Attaches to a device through its vfio-user socket. */
export async function startEchoBackend(
  path: string,
  { queuePairs = 1, regionRemap = true }: EchoBackendOptions = {},
): Promise<EchoBackend> {
  const access = await VfioUserPciAccess.connect(path, { regionRemap });
  const driver = new VvuDriver(access);
  const messages: string[] = [];
  driver.on('message', (bytes) => messages.push(describeFrame(decodeFrame(bytes, 'LE'), 'LE')));
  const echo = new NetEcho(queuePairs);
  new VhostUserBackend(driver, echo);
  driver.start();
  const loop = new PollLoop([driver, echo]);
  loop.ended.catch(() => undefined);
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    // A loop that ended because the device is gone has told whoever waits for it.
    await loop.stop().catch(() => undefined);
    driver.close();
    access.close();
  };
  return { access, driver, echo, messages, stop: () => (stopped ??= stop()) };
}
