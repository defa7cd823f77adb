import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { available, declareTests } from '../../support/declare-tests.js';
import { temporaryFolder } from '../../support/temporary.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { vfioUserArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { LifecycleLab, RECOVERY_BOUND } from './lifecycle-lab.js';

// Every part of a deployment is started in every order and ended in every way while packets flow.
// The tests follow each other: each leaves all parts up for the next one.

const { value: kits, reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const folder = await temporaryFolder('lifecycle', '/dev/shm');
let running: Promise<LifecycleLab> | undefined;
test.after.always(async () => {
  await (await running?.catch(() => undefined))?.close();
  await folder.remove();
});

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

/** One case: what it does ends with packets that flow again. */
function lifecycle(
  title: string,
  body: (t: ExecutionContext, lab: LifecycleLab) => Promise<void>,
): void {
  vmTest(title, async (t) => {
    t.timeout(900_000);
    const began = Date.now();
    running ??= LifecycleLab.start(kits!, folder.path);
    const lab = await running;
    try {
      await body(t, lab);
      const recovery = await lab.flowing();
      t.log(`packets ${seconds(recovery)} after the last step (bound ${seconds(RECOVERY_BOUND)})`);
      t.true(recovery <= RECOVERY_BOUND);
    } catch (error) {
      t.log(await lab.appliance.log());
      throw error;
    }
    t.log(`scenario time: ${seconds(Date.now() - began)}`);
  });
}

/** `begin` starts the frontend VM, which waits at its start; `rest` brings up what it waits for. */
async function whileFrontendWaits(lab: LifecycleLab, rest: () => Promise<void>): Promise<void> {
  const booted = lab.startFrontend();
  booted.catch(() => undefined);
  // Longer than its QEMU takes to its first attempt to connect.
  await sleep(2_000);
  await rest();
  await booted;
}

let descriptors = 0;

lifecycle('start order: frontend, device, appliance, backend', async (t, lab) => {
  t.is(await lab.device.stop(), 'status 0');
  await whileFrontendWaits(lab, async () => {
    await lab.device.restart();
    await lab.appliance.boot();
    await lab.startPrograms();
  });
  await lab.flowing();
  descriptors = lab.device.descriptors;
});

lifecycle('the frontend VM is reset', async (_, lab) => {
  await lab.frontend.vm.reset();
  await lab.startTraffic();
});

lifecycle('the frontend VM reboots', async (_, lab) => {
  // As an init system does. What still sends when Linux 6.1 shuts its virtio devices down may never
  // return from virtio_net's start_xmit, whatever the backend is.
  await lab.stopTraffic();
  await lab.frontend.vm.reboot();
  await lab.startTraffic();
});

lifecycle('kill -9 of the backend', async (_, lab) => {
  await lab.backend.kill();
  await lab.startBackend();
});

lifecycle('kill -9 of the bridge', async (_, lab) => {
  await lab.bridge.kill();
  await lab.appliance.startBridge();
});

lifecycle(
  "kill -9 of the frontend's QEMU; start order: device, appliance, backend, frontend",
  async (_, lab) => {
    await lab.frontend.vm.kill();
    await lab.endFrontend();
    await lab.startFrontend();
  },
);

lifecycle('start order: device, appliance, frontend, backend', async (_, lab) => {
  await lab.endFrontend();
  await lab.backend.stop();
  await whileFrontendWaits(lab, () => lab.startBackend());
});

lifecycle('the appliance VM reboots', async (_, lab) => {
  await lab.appliance.vm.reboot();
  await lab.startPrograms();
});

lifecycle("kill -9 of the appliance's QEMU", async (_, lab) => {
  await lab.appliance.vm.kill();
  await lab.appliance.boot();
  await lab.startPrograms();
});

lifecycle('start order: device, frontend, appliance, backend', async (t, lab) => {
  await lab.endFrontend();
  await lab.appliance.vm.close();
  await whileFrontendWaits(lab, async () => {
    await lab.appliance.boot();
    await lab.startPrograms();
  });
  await lab.flowing();
  t.true(lab.device.descriptors <= descriptors + 2, 'the device has kept nothing of all those');
});

lifecycle(
  'kill -9 of the device: QEMU of the appliance does not come back to it',
  async (t, lab) => {
    await lab.device.kill();
    const { vm } = lab.appliance;
    // QEMU 11.1 either runs on without the device or ends with an assertion of its own.
    const outcome = await vm.shell('echo runs on').catch((error: unknown) => error);
    t.log(`QEMU of the appliance: ${firstLine(outcome)}`);
    t.deepEqual(await lab.frontend.run('echo up'), ['up'], 'the frontend VM runs on');
    const before = lab.device.log.length;
    await lab.device.restart();
    await sleep(3_000);
    t.notRegex(lab.device.log.slice(before), /connected/, 'a new process alone changes nothing');

    // What the operator does: the appliance VM starts again; the frontend VM goes on.
    await vm.close();
    await lab.appliance.boot();
    await lab.startPrograms();
  },
);

vmTest(
  "start order: appliance first; its QEMU says that the device's socket is missing",
  async (t) => {
    const path = `${folder.path}/no-such-socket`;
    const start = Vm.start(kits!.appliance, { args: vfioUserArguments(path) });
    const error = await t.throwsAsync(start);
    t.regex(error.message, /Failed to connect to '.*no-such-socket': No such file or directory/);
  },
);

function firstLine(answer: unknown): string {
  const text = answer instanceof Error ? answer.message : String(answer);
  return text.split('\n')[0] ?? '';
}
