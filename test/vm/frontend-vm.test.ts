import type { ExecutionContext } from 'ava';
import { join } from 'node:path';
import { available, declareTests } from '../support/declare-tests.js';
import { startEchoBackend, type EchoBackend } from '../support/echo-backend.js';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';
import { vmKit, type VmKit } from '../support/vm-kit.js';
import { DeviceProcess } from './device-process.js';
import { allReturned, bringUpNet, NEIGHBOUR, netCounters } from './guest-net.js';
import { vhostUserNetArguments } from './qemu-arguments.js';
import { Vm } from './qemu.js';

// A Linux guest's virtio_net behind an unpatched QEMU's vhost-user-net is the frontend; the backend
// behind the device is the echo. Kicks, calls and the guest's interrupts are real.

const { value: kit, reason } = await available(vmKit);
const vmTest = declareTests(reason);

const MEMORY = '256M';
const PINGS = 20;

/** Brings the interface up and sends to a neighbour that only the static ARP entry knows. */
async function ping(t: ExecutionContext, vm: Vm, what: string): Promise<void> {
  await bringUpNet(vm);
  const before = await netCounters(vm);
  await vm.shell(`ping -q -c ${PINGS} -i 0.05 -s 1400 ${NEIGHBOUR} > /dev/null || true`);
  const after = await allReturned(vm);
  const sent = after.sent - before.sent;
  t.log(`${what}: sent ${sent}, received ${after.received - before.received}`);
  t.true(sent >= PINGS);
  t.is(after.received, after.sent, 'nothing was lost since the interface came up');
}

async function frontendVm(
  t: ExecutionContext,
  ready: VmKit,
  device: DeviceProcess,
  options: { queuePairs: number; path?: string; server?: boolean },
): Promise<Vm> {
  const { queuePairs, path, server = false } = options;
  const vm = await Vm.start(ready, {
    memory: { size: MEMORY, ...(path !== undefined && { path }) },
    cpus: 2,
    args: vhostUserNetArguments({ id: 'net', path: device.vhostUser, queuePairs, server }),
  });
  t.teardown(() => vm.close());
  return vm;
}

function negotiated(t: ExecutionContext, backend: EchoBackend): void {
  const names = new Set(backend.messages.map((message) => message.split(' ')[0]));
  for (const name of [
    'GET_FEATURES',
    'SET_PROTOCOL_FEATURES',
    'GET_QUEUE_NUM',
    'SET_OWNER',
    'SET_VRING_CALL',
    'SET_VRING_ERR',
    'SET_VRING_KICK',
    'SET_VRING_ADDR',
    'SET_VRING_ENABLE',
    'SET_STATUS',
    'ADD_MEM_REG',
  ]) {
    t.true(names.has(name), name);
  }
}

vmTest(
  'a QEMU frontend whose RAM is the preset file: 2 queue pairs, reboot, next VM',
  async (t) => {
    if (!kit) return;
    const folder = await temporaryFolder('frontend', '/dev/shm');
    t.teardown(() => folder.remove());
    const path = join(folder.path, 'ram');
    const device = await DeviceProcess.start({
      layout: 'split',
      window: `path=${path},size=${MEMORY}`,
    });
    t.teardown(() => device.close());
    const backend = await startEchoBackend(device.vfioUser, { queuePairs: 2, regionRemap: false });
    t.teardown(() => backend.stop());

    const vm = await frontendVm(t, kit, device, { queuePairs: 2, path });
    await ping(t, vm, 'first boot');
    negotiated(t, backend);
    t.notRegex(device.log, /\(trapped\)/, 'all of the guest is in the preset file');
    await vm.reboot();
    await ping(t, vm, 'after a reboot');
    await vm.kill();
    await until(() => !backend.driver.connected, 'the end of the connection');

    const next = await frontendVm(t, kit, device, { queuePairs: 2, path });
    await ping(t, next, 'next VM');
    await next.powerOff();
  },
);

vmTest('a QEMU frontend with memory of its own, trapped, as the socket server', async (t) => {
  if (!kit) return;
  const args = ['--vhost-user-mode', 'client'];
  const device = await DeviceProcess.start({ layout: 'rfc', window: 'size=512M', args });
  t.teardown(() => device.close());
  const backend = await startEchoBackend(device.vfioUser, { regionRemap: false });
  t.teardown(() => backend.stop());
  const vm = await frontendVm(t, kit, device, { queuePairs: 1, server: true });
  await ping(t, vm, 'trapped');
  t.regex(device.log, /\(trapped\)/);
  await vm.powerOff();
});
