import { FrontendConnection } from '../../src/frontend/connection.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { native, type NativeSocket } from '../../src/native.js';
import { frontendMessages } from '../../src/vhost-user/index.js';
import { openAccess } from './access.js';
import { startDevice } from './device.js';
import type { Scope } from './scope.js';

export type NotifierMessage = 'SET_VRING_KICK' | 'SET_VRING_CALL';

/** A device with a driver on one side and a frontend on the other, which only share eventfds. */
export interface Attached {
  readonly driver: VvuDriver;
  /** The driver's vfio-user connection. */
  readonly socket: NativeSocket;
  /** Sends a new eventfd as a vring's, and waits until the driver has been told of it. */
  readonly notifier: (kind: NotifierMessage, vring: number) => Promise<number>;
}

/** An eventfd that is closed with the scope. */
export function eventFd(scope: Scope): number {
  const fd = native.createEventFd();
  scope.defer(() => native.closeFd(fd));
  return fd;
}

export async function attach(scope: Scope): Promise<Attached> {
  const device = await startDevice(scope, 'size=64M');
  const { access, socket } = await openAccess(scope, device.vfioUser);
  const driver = new VvuDriver(access);
  let messages = 0;
  driver.on('message', () => messages++);
  driver.start();
  const frontend = new FrontendConnection(native.connect(device.vhostUser), { native });
  scope.defer(() => frontend.close());
  return {
    driver,
    socket,
    notifier: async (kind, vring) => {
      const fd = eventFd(scope);
      const wanted = messages + 1;
      await frontend.set(frontendMessages[kind], { index: vring, noFd: false }, [fd]);
      const deadline = performance.now() + 5000;
      while (messages < wanted) {
        if (performance.now() > deadline) throw new Error(`${kind} does not reach the driver`);
        driver.poll();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return fd;
    },
  };
}
