import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runCommand } from '../support/command.js';
import { available, declareTests } from '../support/declare-tests.js';
import { ensurePackages } from '../support/packages.js';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';
import { vmKit } from '../support/vm-kit.js';
import { VvuProcess } from '../support/vvu-process.js';
import { deviceArguments } from '../vm/qemu-arguments.js';
import { Vm } from '../vm/qemu.js';

/*
 * A block backend on DPDK's vhost library (Debian's), which tracks what is in flight, behind `vvu
 * bridge`. It completes out of order and is killed again and again, while the guest of an unpatched
 * QEMU writes. A request that got lost would keep the guest waiting for ever.
 */
const missing = await ensurePackages(['libdpdk-dev', 'gcc', 'pkg-config']);
const { value: kit, reason } = await available(vmKit);
const inflightTest = declareTests(missing ?? reason);

const MIB = 40;
/** The library starts when all rings are set up, and the firmware sets up the first only. */
const QUEUES = 1;
const KILLS = 5;
const GUEST_TIMEOUT = 180_000;

async function buildBackend(folder: string): Promise<string> {
  const flags = (await runCommand('pkg-config', ['--cflags', 'libdpdk'])).trim().split(/\s+/);
  const source = join(projectRoot, 'test/peers/fixtures/vhost-blk.c');
  const program = join(folder, 'vhost-blk');
  const options = ['-std=c17', '-D_GNU_SOURCE', '-O2', '-DALLOW_EXPERIMENTAL_API', ...flags];
  await runCommand('gcc', [...options, source, '-o', program, '-lrte_vhost', '-lrte_eal']);
  return program;
}

/** The backend's process, one after the other. */
class Backend {
  /** Requests that were found in flight by the processes so far. */
  found = 0;
  private child: ChildProcess | undefined;
  private output = '';

  constructor(
    private readonly program: string,
    private readonly socket: string,
    private readonly disk: string,
  ) {}

  async start(): Promise<void> {
    // A killed process leaves its socket behind.
    await rm(this.socket, { force: true });
    const args = [this.program, this.socket, this.disk, String(QUEUES)];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.child = child;
    await until(() => existsSync(this.socket), 'the backend');
  }

  /** Bytes that the process has written. */
  get written(): number {
    const io = readFileSync(`/proc/${this.child?.pid}/io`, 'utf8');
    return Number(/^wchar: (\d+)$/m.exec(io)?.[1]);
  }

  /** Until it serves the frontend. */
  async started(): Promise<void> {
    await until(() => this.output.includes('started\n'), 'the start of the rings');
    for (const [, again] of this.output.matchAll(/again (\d+)/g)) this.found += Number(again);
  }

  async kill(): Promise<void> {
    const { child } = this;
    if (child?.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    }
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return hash.digest('hex');
}

/** Device, backend, bridge and a VM whose disk they serve. */
async function start(t: ExecutionContext) {
  if (!kit) throw new Error('no virtual machines');
  const folder = await temporaryFolder('inflight', '/dev/shm');
  t.teardown(() => folder.remove());
  const place = (name: string): string => join(folder.path, name);
  await writeFile(place('disk'), '');
  await truncate(place('disk'), MIB * 2 ** 20);
  const sockets = ['--vfio-user', place('vfio-user'), '--vhost-user', place('vhost-user')];
  const device = await VvuProcess.start(['device', ...sockets, '--window', 'size=256M']);
  t.teardown(() => device.kill());
  const backend = new Backend(await buildBackend(folder.path), place('backend'), place('disk'));
  t.teardown(() => backend.kill());
  await backend.start();
  const source = ['--device', `vfio-user:${place('vfio-user')}`];
  const bridge = await VvuProcess.start(['bridge', ...source, '--socket', place('backend')]);
  t.teardown(() => bridge.kill());
  const vm = await Vm.start(kit, {
    memory: { size: '128M' },
    args: [
      ...['-chardev', `socket,id=blk,path=${place('vhost-user')},reconnect-ms=100`],
      ...deviceArguments('vhost-user-blk-pci', { chardev: 'blk', 'num-queues': QUEUES }),
    ],
  });
  t.teardown(() => vm.close());
  await vm.shell('modprobe -a virtio_pci virtio_blk');
  await backend.started();
  return { device, bridge, backend, vm, disk: place('disk') };
}

inflightTest('a backend that is killed with requests in flight loses none', async (t) => {
  const { device, bridge, backend, vm, disk } = await start(t);
  await vm.shell('head -c 1048572 /dev/urandom > /noise');
  // Four writers at a time, past the page cache, so that the rings are never empty for long.
  const write = (part: number): string =>
    `for i in $(seq ${part} 4 ${MIB - 1}); do (printf %04d $i; cat /noise) |` +
    ` dd of=/dev/vda bs=1M seek=$i count=1 iflag=fullblock oflag=direct; done`;
  const parts = [0, 1, 2, 3].map((part) => `(${write(part)}) &`).join(' ');
  const guest = { writing: true };
  const written = vm.shell(`${parts} wait`, GUEST_TIMEOUT).finally(() => (guest.writing = false));
  let kills = 0;
  while (guest.writing && kills < KILLS) {
    await until(() => !guest.writing || backend.written > 2 * 2 ** 20, 'requests of the guest');
    await backend.kill();
    kills++;
    await backend.start();
    await backend.started();
  }
  await written;
  t.log(`killed ${kills} times, ${backend.found} requests were in flight`);
  t.is(kills, KILLS, 'the guest was still writing');
  t.true(backend.found > 0);
  const stream = `for i in $(seq 0 ${MIB - 1}); do printf %04d $i; cat /noise; done | sha256sum`;
  const [expected = ''] = await vm.shell(stream, GUEST_TIMEOUT);
  const [read] = await vm.shell('dd if=/dev/vda bs=1M iflag=direct | sha256sum', GUEST_TIMEOUT);
  t.is(read, expected);
  t.is(await hashFile(disk), expected.slice(0, 64));
  t.true(device.log.includes('inflight + '), 'the buffer is in the window');
  t.false(bridge.log.includes('INFLIGHT_NOT_MAPPED'));
  t.is(await vm.powerOff(), 'status 0');
});
