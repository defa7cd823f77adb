import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { janitor } from './janitor.js';

const PROGRAM = '/usr/bin/dpdk-testpmd';
const PROMPT = 'testpmd> ';
/** Exit code, or the signal that it died of. */
type Ended = [number | null, NodeJS.Signals | null];

/** Why this machine cannot run testpmd, or undefined. */
export function testpmdMissing(): string | undefined {
  if (!existsSync(PROGRAM)) return 'dpdk-testpmd: not installed (apt-get install dpdk)';
  return process.getuid?.() === 0 ? undefined : 'dpdk-testpmd: not root';
}

/**
 * What DPDK uses as its memory, and so shares with the backend; one region and one fd either way.
 * - `memfd`: an ordinary memfd (`--no-huge`); nobody else can have it open.
 * - `file`: the hugetlbfs file `DIR/PREFIXmap_0`. It is reused as it is if it exists, grows to
 *   `mib`, and stays when DPDK ends, with the same inode. So it can be a preset window's file,
 *   made by either side first.
 */
export type Memory =
  | { readonly kind: 'memfd'; readonly mib: number }
  | { readonly kind: 'file'; readonly mib: number; readonly dir: string; readonly prefix: string };

/** The path of a `file` memory. */
export function memoryFile(memory: { dir: string; prefix: string }): string {
  return join(memory.dir, `${memory.prefix}map_0`);
}

export interface TestpmdOptions {
  /** The vhost-user socket's path. */
  readonly socket: string;
  /** Listen on the socket, or connect to it. A frontend that listens blocks until the first connection. */
  readonly server: boolean;
  /** Queue pairs, served by one worker thread. */
  readonly queues?: number;
  /** 64 MiB is enough for 8192 packet buffers on 4 queue pairs. */
  readonly memory?: Memory;
  /** More arguments of the vdev, such as `packed_vq=1,in_order=0`. */
  readonly vdevArgs?: string;
  readonly buffers?: number;
}

/** Counters of port 0, since its start. */
export interface PortStats {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly errors: number;
}

/** The number after a label in testpmd's output. */
export function count(text: string, label: string): number {
  const found = new RegExp(`${label}:\\s*(\\d+)`).exec(text)?.[1];
  if (found === undefined) throw new Error(`testpmd: no ${label} in: ${text}`);
  return Number(found);
}

function memoryArgs(memory: Memory): string[] {
  const mib = String(memory.mib);
  if (memory.kind === 'memfd') return ['--no-huge', '-m', mib];
  const one = ['--single-file-segments', '--huge-unlink=never', '--file-prefix', memory.prefix];
  return ['--huge-dir', memory.dir, '-m', mib, '--socket-limit', mib, ...one];
}

/**
 * One run of DPDK's testpmd with one port, driven through its prompt. Commands are answered one
 * at a time: await each. The process gets its end with ours (parent-death signal and end of
 * stdin), and its run-time files live in a directory of its own that goes away with it.
 */
export class Testpmd {
  readonly queues: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<Ended>;
  readonly #clean: () => Promise<void>;
  #log = '';
  /** stdout alone: stderr may cut the prompt in two. */
  #output = '';
  #isReady = false;
  #ended: string | undefined;
  #wake: () => void = () => undefined;

  /** A vhost-user frontend: the virtio-user PMD. */
  static frontend(options: TestpmdOptions): Testpmd {
    const { socket, server, queues = 1, vdevArgs } = options;
    const vdev = `net_virtio_user0,path=${socket},server=${server ? '1' : '0'},queues=${String(queues)}`;
    return new Testpmd(options, vdevArgs === undefined ? vdev : `${vdev},${vdevArgs}`);
  }

  /** A vhost-user backend: the vhost PMD. As a client it tries to reconnect every second. */
  static backend(options: TestpmdOptions): Testpmd {
    const { socket, server, queues = 1, vdevArgs } = options;
    const vdev = `net_vhost0,iface=${socket},client=${server ? '0' : '1'},queues=${String(queues)}`;
    return new Testpmd(options, vdevArgs === undefined ? vdev : `${vdev},${vdevArgs}`);
  }

  private constructor(options: TestpmdOptions, vdev: string) {
    const { queues = 1, memory = { kind: 'memfd', mib: 128 }, buffers = 8192 } = options;
    const dir = mkdtempSync(join(tmpdir(), 'vvu-dpdk-'));
    const cpus = `(0-${String(availableParallelism() - 1)})`;
    // stdbuf: a pipe would make stdout lag behind the prompt, which is written directly.
    const args = ['--pdeathsig', 'TERM', 'stdbuf', '-oL', PROGRAM];
    args.push('--lcores', `0@${cpus},1@${cpus}`, '--no-pci', '--no-telemetry', '--iova-mode=va');
    args.push(...memoryArgs(memory), '--vdev', vdev, '--', '-i', '--nb-cores=1');
    args.push(`--rxq=${String(queues)}`, `--txq=${String(queues)}`);
    args.push(`--total-num-mbufs=${String(buffers)}`);
    this.queues = queues;
    this.#clean = janitor('rm -rf -- "$1"', dir);
    const env = { ...process.env, RUNTIME_DIRECTORY: dir };
    this.#child = spawn('setpriv', args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#exited = once(this.#child, 'close') as Promise<Ended>;
    this.#child.stdin?.on('error', () => undefined); // EPIPE: `close` tells
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log += text;
        if (stream === this.#child.stdout) this.#output += text;
        this.#wake();
      });
    const end = (how: unknown): void => {
      this.#ended = String(how);
      this.#wake();
    };
    this.#exited.then(end, end);
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('testpmd: did not start');
    return this.#child.pid;
  }

  /** Everything that it has written so far. */
  get log(): string {
    return this.#log;
  }

  /** Wait for the prompt: initialised, and the first negotiation done if it is a frontend. */
  async ready(milliseconds = 20_000): Promise<void> {
    await this.#until(() => this.#output.includes(PROMPT), 'its prompt', milliseconds);
    this.#isReady = true;
  }

  /** Run one command. @returns what it printed */
  async command(line: string, milliseconds = 10_000): Promise<string> {
    const from = this.#output.length;
    this.#child.stdin?.write(`${line}\n`);
    const answered = (): boolean => this.#output.includes(PROMPT, from);
    await this.#until(answered, `the answer to '${line}'`, milliseconds);
    return this.#output.slice(from, this.#output.indexOf(PROMPT, from));
  }

  async stats(): Promise<PortStats> {
    const text = await this.command('show port stats 0');
    const errors = ['RX-errors', 'RX-nombuf', 'RX-missed', 'TX-errors'].map((x) => count(text, x));
    return {
      rxPackets: count(text, 'RX-packets'),
      rxBytes: count(text, 'RX-bytes'),
      txPackets: count(text, 'TX-packets'),
      txBytes: count(text, 'TX-bytes'),
      errors: errors.reduce((a, b) => a + b, 0),
    };
  }

  async linkUp(): Promise<boolean> {
    return (await this.command('show port info 0')).includes('Link status: up');
  }

  /** Wait until the link is up or down, as after a disconnect or a reconnect. */
  async link(up: boolean, milliseconds = 10_000): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while ((await this.linkUp()) !== up) {
      if (Date.now() > deadline) throw new Error(`testpmd: link not ${up ? 'up' : 'down'}`);
      await sleep(50);
    }
  }

  /** Return what comes in on each queue, from now on: the peer of `circulate`. */
  async echo(): Promise<void> {
    await this.command('set fwd io');
    await this.command('start');
  }

  /**
   * End it and remove its files; idempotent. Politely first (`quit` closes the rings), then
   * by force. A client whose backend is gone dies of SIGPIPE here: that is 22.11, and no error.
   * @returns its exit code, or the signal that it died of
   */
  async stop(): Promise<number | NodeJS.Signals> {
    if (this.#isReady) this.#child.stdin?.end('quit\n');
    else this.#child.kill('SIGTERM');
    const force = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
    return this.#finish().finally(() => {
      clearTimeout(force);
    });
  }

  /** SIGKILL, as when a VMM crashes; the files are removed all the same. */
  async kill(): Promise<number | NodeJS.Signals> {
    this.#child.kill('SIGKILL');
    return this.#finish();
  }

  async #finish(): Promise<number | NodeJS.Signals> {
    const [code, signal] = await this.#exited;
    await this.#clean();
    return signal ?? code ?? -1;
  }

  async #until(done: () => boolean, what: string, milliseconds: number): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while (!done()) {
      const left = deadline - Date.now();
      if (this.#ended !== undefined || left <= 0) {
        const why = this.#ended === undefined ? 'timeout' : `ended (${this.#ended})`;
        throw new Error(`testpmd: ${why} waiting for ${what}\n${this.#log.slice(-4000)}`);
      }
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      await Promise.race([woken, sleep(Math.min(left, 250))]);
    }
  }
}
