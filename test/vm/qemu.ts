import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { temporaryFolder, type TemporaryFolder } from '../support/temporary.js';
import type { VmKit } from '../support/vm-kit.js';
import { Agent } from './agent.js';
import { deferred, within } from './deferred.js';
import { LineSocket } from './line-socket.js';
import { deviceArguments, machineArguments, type MachineOptions } from './qemu-arguments.js';
import { Qmp } from './qmp.js';

const KERNEL_ARGUMENTS = [
  'console=ttyS0',
  'quiet',
  // Stay in a panic, do not reboot: the harness sees it on the console.
  'panic=0',
  'mitigations=off',
  // The kernel's check of its timer fails, and panics, where the host is busy for long.
  'no_timer_check',
  'intel_iommu=on',
  'hugepages=8',
];
/** An emulated guest beside busy neighbours on two cores takes its time. */
const BOOT_TIMEOUT = 240_000;
const STOP_TIMEOUT = 10_000;
/** Not longer: a QEMU that still waits for some socket at its start will not answer at all. */
const QUIT_TIMEOUT = 2_000;
const COMMAND_TIMEOUT = 15_000;
const KEPT_OUTPUT = 64 * 1024;
/** A socket in the VM's folder. */
const CONSOLE = 'console';

export interface VmOptions extends Partial<MachineOptions> {
  /** The guest's host name. A guest that has one also has a shell for people, see `Vm.console`. */
  readonly name?: string;
  /** More of QEMU's arguments, see qemu-arguments.ts. */
  readonly args?: readonly string[];
  /** Added to every VM's kernel arguments. */
  readonly kernelArgs?: readonly string[];
  /** Milliseconds until the probe has to answer, waiting for sockets at QEMU's start included. */
  readonly bootTimeout?: number;
  /** Do not boot, but wait for the state of another VM with the same options: see `receive`. */
  readonly incoming?: boolean;
}

/**
 * A guest under QEMU that answers the commands of `test/vm/guest`.
 *
 * One owner calls `close()` at the end, whatever happened: it ends QEMU and removes the folder of
 * its sockets. QEMU also dies with this process, even if that is killed.
 */
export class Vm {
  readonly #folder: TemporaryFolder;
  readonly #sockets: readonly LineSocket[];
  readonly #agent: Agent;
  readonly #qmp: Qmp;
  readonly #child: ChildProcess;
  readonly #exit = deferred<string>();
  #console = '';
  #stderr = '';
  #alive = true;

  private constructor(
    readonly name: string | undefined,
    folder: TemporaryFolder,
    child: ChildProcess,
    agent: LineSocket,
    qmp: LineSocket,
  ) {
    this.#folder = folder;
    this.#child = child;
    this.#sockets = [agent, qmp];
    this.#agent = new Agent(agent);
    this.#qmp = new Qmp(qmp);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#onConsole(text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = tail(this.#stderr + text);
    });
    child.once('error', (error) => this.#onExit(`could not be started: ${error.message}`));
    // 'close', not 'exit': by then all output was read.
    child.once('close', (code, signal) => this.#onExit(signal ?? `status ${code}`));
  }

  /** Starts a VM and waits until its probe answers, unless it is to become another one. */
  static async start(kit: VmKit, options: VmOptions = {}): Promise<Vm> {
    const folder = await temporaryFolder('vm');
    const { name, bootTimeout = BOOT_TIMEOUT } = options;
    const agentPath = join(folder.path, 'agent');
    const qmpPath = join(folder.path, 'qmp');
    const agent = await LineSocket.listen(agentPath);
    const qmp = await LineSocket.listen(qmpPath);
    const args = [
      ...kit.qemu.args,
      ...machineArguments({ memory: { size: '256M' }, ...options }),
      ...['-kernel', kit.image.kernel, '-initrd', kit.image.initrd],
      ...['-append', kernelArguments(options).join(' ')],
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-chardev', `socket,id=agent,path=${agentPath}`, '-serial', 'chardev:agent'],
      ...['-qmp', `unix:${qmpPath}`],
      ...(name === undefined ? [] : consoleArguments(join(folder.path, CONSOLE))),
      ...(options.incoming === true ? ['-incoming', 'defer'] : []),
      ...(options.args ?? []),
    ];
    // setpriv ends QEMU when this process ends without having been able to. In a session of its
    // own, so that Ctrl-C at the terminal reaches this process alone, which ends QEMU in order.
    const command = ['--pdeathsig', 'KILL', '--', kit.qemu.file, ...args];
    const child = spawn('setpriv', command, {
      env: kit.qemu.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const vm = new Vm(name, folder, child, agent, qmp);
    try {
      await vm.#explained(vm.#qmp.negotiate(bootTimeout));
      if (options.incoming !== true) await vm.booted(bootTimeout);
    } catch (error) {
      await vm.close();
      throw error;
    }
    return vm;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The Unix socket of the shell of a guest with a name: one connection at a time. */
  get console(): string {
    return join(this.#folder.path, CONSOLE);
  }

  /** What QEMU and the guest's kernel printed, the end of it. */
  get log(): string {
    return `--- console\n${this.#console}\n--- QEMU\n${this.#stderr}`;
  }

  /** Waits for the probe after a start, or after a reboot that the guest began by itself. */
  async booted(timeout = BOOT_TIMEOUT): Promise<void> {
    await this.#explained(within(this.#agent.ready, timeout, 'guest boot'));
  }

  /** Runs one command of the probe and resolves with the lines it said. */
  run(command: string, timeout = COMMAND_TIMEOUT): Promise<string[]> {
    if (!this.#alive) return Promise.reject(new Error('QEMU is not running'));
    return this.#explained(this.#agent.run(command, timeout));
  }

  /** Runs a shell command in the guest; a status other than 0 rejects. */
  shell(command: string, timeout = COMMAND_TIMEOUT): Promise<string[]> {
    return this.run(`sh ${command}`, timeout);
  }

  /** Runs a command of QEMU's machine protocol. */
  qmp(command: string, args: object = {}): Promise<unknown> {
    return this.#qmp.execute(command, args);
  }

  /** Begins to take in the state that a migration sends to `uri`; started with `incoming`. */
  async receive(uri: string): Promise<void> {
    await this.qmp('migrate-incoming', { uri });
  }

  /** The guest's kernel restarts the machine; resolves when the probe is back. */
  async reboot(): Promise<void> {
    await this.#restart(() => this.run('reboot'));
  }

  /** Resets the machine from outside, as a reset button does. */
  async reset(): Promise<void> {
    await this.#restart(() => this.#qmp.execute('system_reset'));
  }

  /** The guest powers off and QEMU ends by itself; resolves with how, "status 0" when all is well. */
  async powerOff(): Promise<string> {
    await this.run('poweroff');
    return this.exited(BOOT_TIMEOUT);
  }

  /** Ends QEMU at once, as a crash of it would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited(STOP_TIMEOUT);
  }

  /** How QEMU ended. */
  exited(timeout: number): Promise<string> {
    return within(this.#exit.promise, timeout, "QEMU's exit");
  }

  /** Ends QEMU if it still runs, and leaves nothing behind. May be called again. */
  async close(): Promise<void> {
    if (this.#alive) {
      // It may end before it answers.
      await this.#qmp.execute('quit', {}, QUIT_TIMEOUT).catch(() => undefined);
      await this.exited(QUIT_TIMEOUT).catch(() => this.kill());
    }
    for (const socket of this.#sockets) socket.close();
    await this.#folder.remove();
  }

  async #restart(begin: () => Promise<unknown>): Promise<void> {
    this.#agent.expectBoot();
    await begin();
    await this.booted();
  }

  #onConsole(text: string): void {
    this.#console = tail(this.#console + text);
    if (this.#console.includes('Kernel panic')) this.#agent.fail(new Error('the guest panicked'));
  }

  #onExit(how: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    const error = new Error(`QEMU ended: ${how}`);
    this.#agent.fail(error);
    this.#qmp.fail(error);
    this.#exit.resolve(how);
  }

  /** Adds the log to an error, because it is what tells why. ProbeErrors are answers: unchanged. */
  async #explained<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      if (error instanceof Error && error.name !== 'ProbeError') error.message += `\n${this.log}`;
      throw error;
    }
  }
}

/** Of a third serial port, whose interrupt is no other port's. The ACPI tables tell the guest. */
function consoleArguments(path: string): string[] {
  return [
    ...['-chardev', `socket,id=shell,path=${path},server=on,wait=off`],
    ...deviceArguments('isa-serial', { chardev: 'shell', index: 2, iobase: 0x3e8, irq: 5 }),
  ];
}

function kernelArguments({ name, kernelArgs = [] }: VmOptions): string[] {
  const host = name === undefined ? [] : [`vvu.name=${name}`];
  return [...KERNEL_ARGUMENTS, ...host, ...kernelArgs];
}

function tail(text: string): string {
  return text.slice(-KEPT_OUTPUT);
}
