import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder, type TemporaryFolder } from '../support/temporary.js';
import type { Layout } from '../../src/hosts/layout.js';
import { deferred, within, type Deferred } from './deferred.js';

export interface DeviceProcessOptions {
  readonly layout: Layout;
  /** The `--window` option's value. */
  readonly window: string;
  readonly uuid?: string;
  /** More options of `vvu device`. */
  readonly args?: readonly string[];
  /** Told of each line of its log. */
  readonly onLog?: (line: string) => void;
}

const READY_TIMEOUT = 60_000;

/** A `vvu device` process with one device, as an operator runs it. */
export class DeviceProcess {
  readonly #folder: TemporaryFolder;
  readonly #options: DeviceProcessOptions;
  #child: ChildProcess;
  #exit: Deferred<string>;
  #log = '';

  private constructor(folder: TemporaryFolder, options: DeviceProcessOptions) {
    this.#folder = folder;
    this.#options = options;
    [this.#child, this.#exit] = this.#spawn();
  }

  /** Starts it and waits for its line `ready`. */
  static async start(options: DeviceProcessOptions): Promise<DeviceProcess> {
    const device = new DeviceProcess(await temporaryFolder('device'), options);
    try {
      await device.#ready();
    } catch (error) {
      await device.close();
      throw error;
    }
    return device;
  }

  /** The socket for the appliance VM's VMM. */
  get vfioUser(): string {
    return join(this.#folder.path, 'vfio-user');
  }

  /** The socket for the frontend. */
  get vhostUser(): string {
    return join(this.#folder.path, 'vhost-user');
  }

  /** What it logged, over all its lives. */
  get log(): string {
    return this.#log;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** How many file descriptors it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** How many ranges of files it has mapped. */
  get mappings(): number {
    const maps = readFileSync(`/proc/${this.#child.pid}/maps`, 'latin1');
    return maps.split('\n').filter((line) => line.includes(' /')).length;
  }

  /** SIGTERM; resolves with how it ended, "status 0" when it stopped cleanly. */
  async stop(): Promise<string> {
    this.#child.kill('SIGTERM');
    return within(this.#exit.promise, 10_000, 'the end of vvu device');
  }

  /** Whether it left a socket file behind. */
  get hasSockets(): boolean {
    return existsSync(this.vfioUser) || existsSync(this.vhostUser);
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit.promise;
  }

  /** Starts it again, with the same options and sockets, once it has ended. */
  async restart(): Promise<void> {
    await this.#exit.promise;
    [this.#child, this.#exit] = this.#spawn();
    await this.#ready();
  }

  /** Ends it, if it still runs, and removes its folder. */
  async close(): Promise<void> {
    await this.kill();
    await this.#folder.remove();
  }

  #spawn(): [ChildProcess, Deferred<string>] {
    const { layout, window, uuid, args: more = [], onLog } = this.#options;
    const args = ['--pdeathsig', 'KILL', '--', process.execPath];
    args.push(join(projectRoot, 'dist/src/cli/main.js'), 'device');
    args.push('--vfio-user', this.vfioUser, '--vhost-user', this.vhostUser);
    args.push('--layout', layout, '--window', window);
    if (uuid !== undefined) args.push('--uuid', uuid);
    // In a session of its own: Ctrl-C at the terminal is for this process.
    const child = spawn('setpriv', [...args, ...more], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const exit = deferred<string>();
    child.once('error', (error) => exit.resolve(`could not be started: ${error.message}`));
    child.once('close', (code, signal) => exit.resolve(signal ?? `status ${code}`));
    let rest = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      if (onLog !== undefined) lines.forEach((line) => onLog(line));
    });
    return [child, exit];
  }

  async #ready(): Promise<void> {
    const ready = deferred<undefined>();
    let text = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (data: string) => {
      text += data;
      if (/^ready\b/m.test(text)) ready.resolve(undefined);
    });
    const ended = this.#exit.promise.then((how) => {
      throw new Error(`vvu device ended: ${how}\n${this.#log}`);
    });
    await within(Promise.race([ready.promise, ended]), READY_TIMEOUT, 'vvu device');
  }
}
