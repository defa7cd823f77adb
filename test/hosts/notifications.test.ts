import test from 'ava';
import { native } from '../../src/native.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { LAYOUTS } from '../../src/hosts/layout.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { RawPeer } from '../malformed/raw-peer.js';
import { request, u64 } from '../malformed/vhost-user-inputs.js';
import { until } from '../support/until.js';
import { DeviceProcess } from '../vm/device-process.js';

/*
 * Doorbells and kicks through a device process, without any backend logic: eventfds of the frontend
 * on one side, registers and MSI-X vectors on the other.
 */
const FRAMING = { headerSize: 12, lengthOffset: 8, lengthIncludesHeader: false };
const PLAIN = { flags: 1 };
const MAX_QUEUES = 256;
const SET_VRING_KICK = 12;
const SET_VRING_CALL = 13;
const SET_VRING_ERR = 14;
const SET_LOG_FD = 7;

for (const layout of LAYOUTS) {
  test(`doorbells and kicks, ${layout}`, async (t) => {
    const device = await DeviceProcess.start({ layout, window: 'size=64M' });
    t.teardown(() => device.close());
    const access = await VfioUserPciAccess.connect(device.vfioUser);
    t.teardown(() => access.close());
    const driver = new VvuDriver(access);
    const frontend = new RawPeer(device.vhostUser, FRAMING);
    t.teardown(() => frontend.close());
    const seen: number[] = [];
    driver.on('message', (bytes) => seen.push(bytes.readUInt32LE(0)));
    driver.start();

    const fds = Array.from({ length: 6 }, () => native.createEventFd());
    t.teardown(() => fds.forEach((fd) => native.closeFd(fd)));
    const [call, lastCall, err, log, kick, noVector] = fds as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    frontend.send(request(SET_VRING_CALL, u64(0), PLAIN), [call]);
    frontend.send(request(SET_VRING_CALL, u64(MAX_QUEUES - 1), PLAIN), [lastCall]);
    frontend.send(request(SET_VRING_ERR, u64(0), PLAIN), [err]);
    frontend.send(request(SET_LOG_FD, undefined, PLAIN), [log]);
    frontend.send(request(SET_VRING_KICK, u64(3), PLAIN), [kick]);
    frontend.send(request(SET_VRING_KICK, u64(4), PLAIN), [noVector]);
    const sent = [13, 13, 14, 7, 12, 12];
    await until(() => driver.poll() >= 0 && seen.length === sent.length, 'the messages');
    t.deepEqual(seen, sent, 'the guest sees them all, without fds');

    const signalled = (fd: number) => () => native.readEventFd(fd) > 0;
    driver.doorbell(0).ring();
    await until(signalled(call), 'the call eventfd');
    driver.doorbell(MAX_QUEUES - 1).ring();
    await until(signalled(lastCall), 'the last call eventfd');
    driver.logDoorbell().ring();
    await until(signalled(log), 'the log eventfd');
    driver.errDoorbell(0)?.ring();
    await until(signalled(err), 'the err eventfd');
    t.is(native.readEventFd(call), 0, 'each doorbell has one eventfd');

    const interrupt = driver.kick(3);
    t.truthy(interrupt);
    native.signalEventFd(kick);
    await until(() => native.readEventFd(interrupt?.eventfd ?? -1) === 1, 'the interrupt');
    // A kick that comes before its vector waits in the eventfd.
    native.signalEventFd(noVector);
    const late = driver.kick(4);
    await until(() => native.readEventFd(late?.eventfd ?? -1) === 1, 'the late interrupt');
    driver.close();
  });
}
