import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { runCommand } from '../support/command.js';
import { openVSwitchFiles, type OpenVSwitchFiles } from '../support/openvswitch.js';
import { temporaryFolder, type TemporaryFolder } from '../support/temporary.js';

/**
 * DPDK's memory is one memfd, no hugepages: those of the machine stay as they are. Open vSwitch asks
 * for `--in-memory`, which does not go with that, unless it finds `--legacy-mem`. Buffers that ports
 * do not share take 70 MB each; shared ones 840 MB.
 */
const EAL = '--legacy-mem --no-huge -m 256 --no-pci --iova-mode=va --no-telemetry';
const BRIDGE = 'br0';

/** Debian's Open vSwitch with DPDK: a database and a switch in a folder of their own, without flows. */
export class OpenVSwitch {
  readonly #files: OpenVSwitchFiles;
  readonly #folder: TemporaryFolder;
  readonly #running = new Set<ChildProcess>();
  #switch: ChildProcess | undefined;
  #log = '';

  private constructor(files: OpenVSwitchFiles, folder: TemporaryFolder) {
    this.#files = files;
    this.#folder = folder;
  }

  /** @throws Unavailable where the packages cannot be had */
  static async start(): Promise<OpenVSwitch> {
    const files = await openVSwitchFiles();
    const ovs = new OpenVSwitch(files, await temporaryFolder('ovs'));
    try {
      await ovs.#startDatabase();
      await ovs.startSwitch();
      await ovs.#vsctl('add-br', BRIDGE, '--', 'set', 'bridge', BRIDGE, 'datapath_type=netdev');
      await ovs.#ofctl('del-flows', BRIDGE);
    } catch (error) {
      await ovs.close();
      throw new Error(`Open vSwitch does not start: ${String(error)}\n${ovs.log}`, {
        cause: error,
      });
    }
    return ovs;
  }

  /** What its processes wrote. */
  get log(): string {
    return this.#log;
  }

  /** `ovs-vswitchd (Open vSwitch) X.Y.Z`. */
  async version(): Promise<string> {
    const text = await this.#run(this.#files.vswitchd, '--version');
    return text.split('\n')[0] ?? '';
  }

  /** With the configuration that is in the database; flows do not survive its end. */
  async startSwitch(): Promise<void> {
    const args = [`unix:${this.#database}`, `--unixctl=${this.#path('switch.ctl')}`];
    this.#switch = this.#spawn(this.#files.vswitchd, args);
    await this.#appctl('version');
  }

  /** SIGKILL; what it said of the ports is taken out of the database. */
  async killSwitch(names: readonly string[]): Promise<void> {
    const child = this.#switch;
    if (child === undefined) return;
    this.#switch = undefined;
    await this.#kill(child);
    for (const name of names) {
      await this.#vsctl('--no-wait', 'clear', 'Interface', name, 'link_state', 'mtu', 'ofport');
    }
  }

  /** A vhost-user port that connects to `socket`, again and again. */
  async addPort(name: string, socket: string): Promise<void> {
    const settings = ['type=dpdkvhostuserclient', `options:vhost-server-path=${socket}`];
    await this.#vsctl('add-port', BRIDGE, name, '--', 'set', 'Interface', name, ...settings);
  }

  /** What comes in at `from` goes out at `to`, which may be the same. */
  async addFlow(from: string, to: string): Promise<void> {
    const action = from === to ? 'in_port' : `output:${to}`;
    await this.#ofctl('add-flow', BRIDGE, `in_port=${from},actions=${action}`);
  }

  /** Resolves when the ports have their numbers, so that flows can name them. */
  async numbered(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#vsctl('wait-until', 'Interface', name, 'ofport>0');
  }

  /** Resolves when packets can come in: the port's buffers are made after its first connection. */
  async connected(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.#vsctl('wait-until', 'Interface', name, 'link_state=up', 'mtu=1500');
    }
  }

  async close(): Promise<void> {
    for (const child of [...this.#running].reverse()) await this.#kill(child);
    await this.#folder.remove();
  }

  async #startDatabase(): Promise<void> {
    const file = this.#path('conf.db');
    await this.#run('ovsdb-tool', 'create', file, join(this.#files.data, 'vswitch.ovsschema'));
    const control = `--unixctl=${this.#path('database.ctl')}`;
    this.#spawn('ovsdb-server', [file, `--remote=punix:${this.#database}`, control]);
    await this.#vsctl('--no-wait', 'init');
    const options = [`dpdk-extra="${EAL}"`, 'dpdk-init=true', 'per-port-memory=true'];
    const settings = [...options, 'dpdk-lcore-mask=0x1', 'pmd-cpu-mask=0x2'].map(
      (one) => `other_config:${one}`,
    );
    await this.#vsctl('--no-wait', 'set', 'Open_vSwitch', '.', ...settings);
  }

  get #database(): string {
    return this.#path('database');
  }

  get #environment(): NodeJS.ProcessEnv {
    const { path } = this.#folder;
    return {
      ...process.env,
      PATH: [...this.#files.path, process.env['PATH']].join(':'),
      ...{ OVS_RUNDIR: path, OVS_LOGDIR: path, OVS_DBDIR: path, OVS_SYSCONFDIR: path },
      OVS_PKGDATADIR: this.#files.data,
      RUNTIME_DIRECTORY: path,
    };
  }

  #path(name: string): string {
    return join(this.#folder.path, name);
  }

  #spawn(file: string, args: readonly string[]): ChildProcess {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.add(child);
    child.once('error', (error) => (this.#log += `${error.message}\n`));
    child.once('close', () => this.#running.delete(child));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    }
    return child;
  }

  async #kill(child: ChildProcess): Promise<void> {
    if (!this.#running.has(child)) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
  }

  #run(file: string, ...args: readonly string[]): Promise<string> {
    return runCommand(file, args, { env: this.#environment });
  }

  /** Waits for the database, and until the switch has done it. */
  async #vsctl(...args: readonly string[]): Promise<void> {
    await this.#run('ovs-vsctl', `--db=unix:${this.#database}`, '--retry', '--timeout=50', ...args);
  }

  async #ofctl(...args: readonly string[]): Promise<void> {
    await this.#run('ovs-ofctl', ...args);
  }

  /** Tries again while the switch does not listen yet. */
  async #appctl(...args: readonly string[]): Promise<void> {
    const target = `--target=${this.#path('switch.ctl')}`;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#run('ovs-appctl', target, ...args);
        return;
      } catch (error) {
        if (attempt === 100 || this.#switch?.exitCode !== null) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }
}
