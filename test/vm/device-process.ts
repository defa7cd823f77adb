import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder, type TemporaryFolder } from '../support/temporary.js';
import { deferred, within } from './deferred.js';

export interface DeviceProcessOptions {
  readonly layout: 'split' | 'rfc';
  /** The `--window` option's value. */
  readonly window: string;
  readonly uuid?: string;
  /** More options of `vvu device`. */
  readonly args?: readonly string[];
}

/** A `vvu device` process with one device, as an operator runs it. */
export class DeviceProcess {
  readonly #folder: TemporaryFolder;
  readonly #child: ChildProcess;
  readonly #exit = deferred<string>();
  #log = '';

  private constructor(folder: TemporaryFolder, child: ChildProcess) {
    this.#folder = folder;
    this.#child = child;
    child.once('error', (error) => this.#exit.resolve(`could not be started: ${error.message}`));
    child.once('close', (code, signal) => this.#exit.resolve(signal ?? `status ${code}`));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
  }

  /** Starts it and waits for its line `ready`. */
  static async start(options: DeviceProcessOptions): Promise<DeviceProcess> {
    const folder = await temporaryFolder('device');
    const args = ['--pdeathsig', 'KILL', '--', process.execPath];
    args.push(join(projectRoot, 'dist/src/cli/main.js'), 'device');
    args.push('--vfio-user', join(folder.path, 'vfio-user'));
    args.push('--vhost-user', join(folder.path, 'vhost-user'));
    args.push('--layout', options.layout, '--window', options.window);
    if (options.uuid !== undefined) args.push('--uuid', options.uuid);
    const child = spawn('setpriv', [...args, ...(options.args ?? [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const device = new DeviceProcess(folder, child);
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

  /** What it logged. */
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

  /** Ends it, if it still runs, and removes its folder. */
  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit.promise;
    await this.#folder.remove();
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
    await within(Promise.race([ready.promise, ended]), 20_000, 'vvu device');
  }
}
