import test, { type ExecutionContext } from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import type { BackendConfig } from '../../src/guest/backend-device.js';
import { backendMessages } from '../../src/vhost-user/index.js';
import { until } from '../support/until.js';
import { assertEchoes, startRig } from './rig.js';

const { CONFIG_CHANGE_MSG, IOTLB_MSG, SHARED_OBJECT_LOOKUP } = backendMessages;

/** An echo whose configuration space is 8 bytes that can change. */
class ConfigurableEcho extends NetEcho {
  bytes = Buffer.alloc(8);
  readonly config: BackendConfig = {
    read: (offset, length) => Buffer.from(this.bytes.subarray(offset, offset + length)),
    write: (offset, bytes) => {
      this.bytes.set(bytes, offset);
    },
  };
}

async function configurable(t: ExecutionContext) {
  const echo = new ConfigurableEcho(1);
  const rig = await startRig(t, { echo });
  const seen: string[] = [];
  let refuse = false;
  const frontend = rig.connect({
    onBackendRequest: (name) => {
      seen.push(name);
      if (refuse) throw new Error('not now');
    },
  });
  await frontend.start();
  return { rig, backend: rig.backend, echo, frontend, seen, refuseAll: () => (refuse = true) };
}

test.serial(
  'a frontend learns of a changed configuration space, and its answer counts',
  async (t) => {
    const { backend, echo, frontend, seen, refuseAll } = await configurable(t);
    t.true(backend.requests.available);
    t.deepEqual(await frontend.readConfig(0, 8), Buffer.alloc(8));
    echo.bytes = Buffer.from('resized!');
    await backend.requests.request(CONFIG_CHANGE_MSG, undefined);
    t.deepEqual(seen, ['BACKEND_CONFIG_CHANGE_MSG']);
    t.is((await frontend.readConfig(0, 8)).toString(), 'resized!');
    refuseAll();
    await t.throwsAsync(backend.requests.request(CONFIG_CHANGE_MSG, undefined), {
      code: 'REFUSED',
    });
    // Without need_reply nobody is told, and packets go on.
    backend.requests.notify(CONFIG_CHANGE_MSG, undefined);
    await until(() => seen.length === 3, 'the third request');
    await assertEchoes(t, frontend, 300);
  },
);

test.serial('the device refuses what needs an fd or was not accepted', async (t) => {
  const { rig, backend, seen } = await configurable(t);
  const miss = { iova: 0n, size: 0n, userAddress: 0n, permissions: 1, type: 1 };
  await t.throwsAsync(backend.requests.request(IOTLB_MSG, miss), { code: 'REFUSED' });
  const lookup = backend.requests.request(SHARED_OBJECT_LOOKUP, Buffer.alloc(16));
  await t.throwsAsync(lookup, { code: 'REFUSED' });
  t.deepEqual(seen, []);
  await rig.process.stop();
});

test.serial('requests end with the frontend, and another opens its own channel', async (t) => {
  const { rig, backend, frontend, seen } = await configurable(t);
  for (let round = 0; round < 20; round++) await frontend.openChannel();
  await backend.requests.request(CONFIG_CHANGE_MSG, undefined);
  t.is(seen.length, 1, 'the last channel counts');
  frontend.close();
  await until(() => !backend.requests.available, 'the end of the frontend');
  await t.throwsAsync(backend.requests.request(CONFIG_CHANGE_MSG, undefined), {
    code: 'NO_CHANNEL',
  });
  const next = rig.connect({ onBackendRequest: (name) => void seen.push(name) });
  await next.start();
  await backend.requests.request(CONFIG_CHANGE_MSG, undefined);
  t.is(seen.length, 2);
});

test.serial('features that the operator hides, in options of the command', async (t) => {
  const hidden = ['--hide-features', 'BACKEND_REQ,STATUS', '--unknown-requests', 'refuse'];
  const rig = await startRig(t, { device: ['--window', 'size=64M', ...hidden] });
  const frontend = rig.connect({ onBackendRequest: () => undefined });
  await frontend.start();
  t.is(frontend.protocolFeatures & 0x1_0020n, 0n);
  t.is(frontend.protocolFeatures & 0x8n, 0x8n);
  t.false(rig.backend.requests.available);
  await assertEchoes(t, frontend, 100);
});
