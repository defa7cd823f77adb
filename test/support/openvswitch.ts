import { readdir, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import {
  aptGet,
  DPDK_PACKAGES,
  requirePackages,
  unavailableIfFailing,
  withFreshLists,
} from './packages.js';

const SWITCH = 'openvswitch-switch-dpdk';
const PACKAGES = [SWITCH, 'openvswitch-switch', 'openvswitch-common'];
const LIBRARIES = 'libraries';

/** Programs and data of Debian's Open vSwitch with DPDK. */
export interface OpenVSwitchFiles {
  readonly vswitchd: string;
  /** Folders for PATH: ovsdb-server, ovs-vsctl and the other tools. */
  readonly path: readonly string[];
  /** `vswitch.ovsschema` and others. */
  readonly data: string;
}

/**
 * Downloaded and unpacked, because installed they would start a switch of the machine's own. Only
 * the libraries that they link to are installed.
 */
export async function openVSwitchFiles(): Promise<OpenVSwitchFiles> {
  const entry = await cached('openvswitch', PACKAGES, unpack);
  const libraries = (await readFile(join(entry, LIBRARIES), 'utf8')).split('\n');
  await requirePackages([...DPDK_PACKAGES, ...libraries]);
  return {
    vswitchd: join(entry, 'usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk'),
    path: [join(entry, 'usr/bin'), join(entry, 'usr/sbin')],
    data: join(entry, 'usr/share/openvswitch'),
  };
}

async function unpack(directory: string): Promise<void> {
  const downloads = join(directory, 'download');
  await mkdir(downloads);
  await unavailableIfFailing('cannot download Open vSwitch', () =>
    withFreshLists(() =>
      aptGet(['-o', 'APT::Sandbox::User=root', 'download', ...PACKAGES], downloads),
    ),
  );
  for (const name of await readdir(downloads)) {
    const file = join(downloads, name);
    await runCommand('dpkg-deb', ['-x', file, directory]);
    if (!name.startsWith(`${SWITCH}_`)) continue;
    const depends = await runCommand('dpkg-deb', ['-f', file, 'Depends']);
    const names = depends.split(',').map((one) => one.trim().split(' ')[0] ?? '');
    const libraries = names.filter((one) => one.startsWith('lib'));
    await writeFile(join(directory, LIBRARIES), libraries.join('\n'));
  }
}
