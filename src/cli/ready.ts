import type { VfioUserDeviceHost } from '../hosts/vfio-user/index.js';
import { formatSize } from './parse.js';

/** What an operator needs to attach both VMs to a device. */
export interface ReadyReport {
  readonly name: string;
  readonly uuid: string;
  readonly vfioUser: string;
  readonly vhostUser: string;
  /** QEMU arguments of the appliance VM, in which the device is. */
  readonly applianceArguments: readonly string[];
  /** QEMU arguments of the frontend VM, which the appliance serves. */
  readonly frontendArguments: readonly string[];
}

const APPLIANCE_RAM = '2G';

/** Behind the arguments of any q35 machine; the guest's RAM must be shared, so that DMA works. */
function applianceArguments(host: VfioUserDeviceHost): string[] {
  const socket = { type: 'unix', path: host.options.vfioUserPath };
  return [
    '-object',
    `memory-backend-memfd,id=ram,size=${APPLIANCE_RAM},share=on`,
    '-machine',
    'q35,memory-backend=ram',
    '-m',
    APPLIANCE_RAM,
    '-device',
    JSON.stringify({ driver: 'vfio-user-pci', socket }),
  ];
}

/** The frontend's RAM must fit into the window. */
function frontendArguments(host: VfioUserDeviceHost): string[] {
  const { vhostUserPath, vhostUserMode, window } = host.options;
  const size = formatSize(window.presetPath === undefined ? window.trappedSize : window.presetSize);
  const ram =
    window.presetPath === undefined
      ? `memory-backend-memfd,id=ram,size=${size},share=on`
      : `memory-backend-file,id=ram,size=${size},mem-path=${window.presetPath},share=on`;
  const role = vhostUserMode === 'server' ? 'reconnect-ms=1000' : 'server=on,wait=off';
  return [
    '-object',
    ram,
    '-machine',
    'q35,memory-backend=ram',
    '-m',
    size,
    '-chardev',
    `socket,id=vhost,path=${vhostUserPath},${role}`,
    '-netdev',
    'vhost-user,id=net,chardev=vhost',
    '-device',
    'virtio-net-pci,netdev=net',
  ];
}

export function readyReport(host: VfioUserDeviceHost): ReadyReport {
  return {
    name: host.options.name,
    uuid: host.uuid,
    vfioUser: host.options.vfioUserPath,
    vhostUser: host.options.vhostUserPath,
    applianceArguments: applianceArguments(host),
    frontendArguments: frontendArguments(host),
  };
}

/** Quotes a word for a POSIX shell where it needs it. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** `-m 2G -device ...`: pasted as it is into a shell. */
export function shellArguments(words: readonly string[]): string {
  return words.map(quote).join(' ');
}

export function formatReady(report: ReadyReport): string {
  const { name, vfioUser, vhostUser, uuid } = report;
  return [
    `ready ${name} vfio-user=${vfioUser} vhost-user=${vhostUser} uuid=${uuid}`,
    `  appliance VM: qemu-system-x86_64 ${shellArguments(report.applianceArguments)}`,
    `  frontend VM:  qemu-system-x86_64 ${shellArguments(report.frontendArguments)}`,
  ].join('\n');
}
