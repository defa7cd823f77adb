import { setTimeout as sleep } from 'node:timers/promises';
import { GUEST_PROJECT } from '../support/node-guest-image.js';
import type { Vm } from './qemu.js';

export type GuestEvent = { readonly event: string } & Readonly<Record<string, unknown>>;

const START_TIMEOUT = 180_000;

/** A Node.js program of `guest-node`, or a command of the project, that runs inside the guest. */
export class GuestProgram {
  private seen = 0;

  private constructor(
    private readonly vm: Vm,
    private readonly name: string,
  ) {}

  /** Starts `node ARGS` in the project's folder; `name` tells programs of one guest apart. */
  static start(vm: Vm, name: string, args: string): Promise<GuestProgram> {
    return GuestProgram.command(vm, name, `node ${args}`);
  }

  /** Starts any command, in the same folder. */
  static async command(vm: Vm, name: string, command: string): Promise<GuestProgram> {
    const files = `>/tmp/${name}.out 2>/tmp/${name}.err`;
    const run = `cd ${GUEST_PROJECT}; ${command} ${files} & echo $! >/tmp/${name}.pid; wait $!; echo $? >/tmp/${name}.rc`;
    await vm.shell(`mkdir -p /tmp; rm -f /tmp/${name}.*; (${run}) >/dev/null 2>&1 </dev/null &`);
    return new GuestProgram(vm, name);
  }

  /**
   * Starts the probe's own backend, a C program (test/vm/guest/backend.c) on `socket`. It is ended
   * with the guest, or by a signal.
   */
  static async backend(vm: Vm, socket: string): Promise<GuestProgram> {
    await vm.shell('mkdir -p /tmp; rm -f /tmp/backend.*');
    const [pid = ''] = await vm.run(`backend ${socket}`);
    await vm.shell(`echo ${pid} >/tmp/backend.pid`);
    return new GuestProgram(vm, 'backend');
  }

  /** The next line of JSON on its standard output with this event; those before it are dropped. */
  async event(event: string, timeout = START_TIMEOUT): Promise<GuestEvent> {
    const end = performance.now() + timeout;
    for (;;) {
      const status = await this.exitStatus();
      const lines = await this.lines('out');
      while (this.seen < lines.length) {
        const line = lines[this.seen++] ?? '';
        if (!line.startsWith('{')) continue;
        const found = JSON.parse(line) as GuestEvent;
        if (found.event === event) return found;
      }
      if (status !== undefined || performance.now() > end) {
        throw new Error(`no "${event}" from ${this.name} (status ${status}):\n${await this.log()}`);
      }
      await sleep(100);
    }
  }

  async signal(name: string): Promise<void> {
    await this.vm.shell(`kill -${name} $(cat /tmp/${this.name}.pid)`);
  }

  /** SIGKILL; resolves when it has gone, so that a new one may take its name. */
  async kill(): Promise<void> {
    await this.signal('KILL');
    await this.ended();
  }

  /** SIGTERM; resolves with the exit status. */
  async stop(): Promise<number> {
    await this.signal('TERM');
    return this.ended();
  }

  /** Waits for its end; resolves with the exit status. */
  async ended(timeout = START_TIMEOUT): Promise<number> {
    const end = performance.now() + timeout;
    for (;;) {
      const status = await this.exitStatus();
      if (status !== undefined) return status;
      if (performance.now() > end) throw new Error(`${this.name} runs on:\n${await this.log()}`);
      await sleep(100);
    }
  }

  /** What it wrote to both outputs. */
  async log(): Promise<string> {
    return [...(await this.lines('out')), ...(await this.lines('err'))].join('\n');
  }

  /** Undefined while it runs. */
  async exitStatus(): Promise<number | undefined> {
    const [status] = await this.lines('rc');
    return status === undefined ? undefined : Number(status);
  }

  private lines(kind: string): Promise<string[]> {
    return this.vm.shell(`cat /tmp/${this.name}.${kind} 2>/dev/null || true`);
  }
}
