import test, { type ExecutionContext } from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { native, type NativeMemory } from '../../src/native.js';
import { backendMessages, type ShmemMap } from '../../src/vhost-user/index.js';
import { until } from '../support/until.js';
import { assertEchoes, openFds, startRig } from './rig.js';

const { SHMEM_MAP, SHMEM_UNMAP } = backendMessages;
const PAGE = 4096;
const REGION = 0x10000n;

/** An echo with a region of shared memory. */
class SharingEcho extends NetEcho {
  readonly sharedMemory = [0n, REGION];
}

/** A backend with shared memory behind a device with these options, and a frontend that maps it. */
async function sharing(t: ExecutionContext, ...options: readonly string[]) {
  const device = ['--window', 'size=64M', ...options];
  const rig = await startRig(t, { device, echo: new SharingEcho(1) });
  const mapped: NativeMemory[] = [];
  const frontend = rig.connect({
    onBackendRequest: (name, value, fds) => {
      if (name !== 'BACKEND_SHMEM_MAP') return;
      const { fdOffset, length, flags } = value as ShmemMap;
      const place = { offset: Number(fdOffset), length: Number(length), writable: flags === 1n };
      mapped.push(native.map(fds[0] ?? -1, place));
    },
  });
  t.teardown(() => {
    for (const memory of mapped) memory.release();
  });
  await frontend.start();
  const { access, backend } = rig;
  return { rig, access, requests: backend.requests, frontend, mapped };
}

test.serial("a frontend maps the guest's memory, and both see each other's stores", async (t) => {
  const { rig, access, requests, frontend, mapped } = await sharing(t, '--share-memory');
  t.deepEqual(await frontend.sharedMemory(), [0n, REGION]);
  const buffer = access.allocateDma(2 * PAGE);
  buffer.memory.write(buffer.iova + PAGE, Buffer.from('of the guest'));
  const map = {
    ...{ shmid: 1, fdOffset: BigInt(buffer.iova), shmOffset: 0n },
    ...{ length: BigInt(2 * PAGE), flags: 1n },
  };
  await requests.request(SHMEM_MAP, map);
  const [memory] = mapped;
  t.is(memory?.read(PAGE, 12).toString(), 'of the guest');
  memory?.write(0, Buffer.from('of the frontend'));
  t.is(buffer.memory.read(buffer.iova, 15).toString(), 'of the frontend');
  await requests.request(SHMEM_UNMAP, { ...map, fdOffset: 0n, flags: 0n });
  await assertEchoes(t, frontend, 100);

  const { pid } = rig.process;
  const idle = openFds(pid);
  for (let round = 0; round < 50; round++) await requests.request(SHMEM_MAP, map);
  await until(() => openFds(pid) <= idle, 'no fd stays open per mapping');
  t.is(mapped.length, 51);
});

test.serial('what is not whole pages of mapped memory is refused, and packets go on', async (t) => {
  const { access, requests, frontend, mapped } = await sharing(t, '--share-memory');
  const { iova } = access.allocateDma(PAGE);
  const whole = { shmid: 1, fdOffset: BigInt(iova), shmOffset: 0n, length: 4096n, flags: 1n };
  const bad = [
    { ...whole, fdOffset: BigInt(iova) + 1n },
    { ...whole, length: 4095n },
    { ...whole, length: 0n },
    { ...whole, length: 1n << 40n },
    { ...whole, fdOffset: 1n << 52n },
    { ...whole, fdOffset: (1n << 63n) + 4096n },
  ];
  for (const map of bad) {
    await t.throwsAsync(requests.request(SHMEM_MAP, map), { code: 'REFUSED' });
  }
  t.is(mapped.length, 0);
  await assertEchoes(t, frontend, 100);
});

test.serial('nothing is shared unless the operator says so', async (t) => {
  const { access, requests, frontend, mapped } = await sharing(t);
  const { iova } = access.allocateDma(PAGE);
  const map = { shmid: 1, fdOffset: BigInt(iova), shmOffset: 0n, length: 4096n, flags: 1n };
  await t.throwsAsync(requests.request(SHMEM_MAP, map), { code: 'REFUSED' });
  t.is(mapped.length, 0);
  await assertEchoes(t, frontend, 100);
  // A request without its feature, and without a reply that could say so.
  await t.throwsAsync(frontend.sharedMemory());
});
