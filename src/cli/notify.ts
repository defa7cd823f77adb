import { errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import type { Native } from '../native.js';

/**
 * Tells the service manager (sd_notify(3)): `READY=1`, `STOPPING=1`. Does nothing where none asked
 * for it with NOTIFY_SOCKET, a path or `@` and an abstract name. The manager that does not listen
 * is its own problem: a service must not end for it.
 */
export function notifyManager(
  native: Pick<Native, 'sendDatagram'>,
  state: string,
  logger: Logger,
  socket = process.env['NOTIFY_SOCKET'],
): void {
  if (socket === undefined || !/^[/@]./.test(socket)) return;
  try {
    native.sendDatagram(socket, Buffer.from(state));
  } catch (error) {
    logger.warn({ state, error: errorMessage(error) }, 'service manager not notified');
  }
}
