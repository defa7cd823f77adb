import type { Vm } from './qemu.js';

/** Packets of the guest's first interface since it came up. */
export interface NetCounters {
  readonly sent: number;
  readonly received: number;
}

/** The neighbour that packets go to: only the guest's ARP table knows it, and nobody answers. */
export const NEIGHBOUR = '192.0.2.2';

/** Loads the network driver and brings the interface up. */
export async function bringUpNet(vm: Vm, timeout?: number): Promise<void> {
  await vm.shell('modprobe -a virtio_pci virtio_net', timeout);
  await vm.shell('ifconfig eth0 192.0.2.1 netmask 255.255.255.0 up', timeout);
  await vm.shell(`arp -s ${NEIGHBOUR} 02:00:00:00:00:02`, timeout);
}

export async function netCounters(vm: Vm): Promise<NetCounters> {
  const folder = '/sys/class/net/eth0/statistics';
  const lines = await vm.shell(`cat ${folder}/tx_packets ${folder}/rx_packets`);
  const [sent = NaN, received = NaN] = lines.map(Number);
  return { sent, received };
}

/**
 * Waits until an echo has sent back all that the guest sent, also what it sent by itself (IPv6
 * neighbour discovery). @returns the counters then, or after five seconds if something is missing
 */
export async function allReturned(vm: Vm): Promise<NetCounters> {
  let counters = await netCounters(vm);
  for (let tries = 0; tries < 250 && counters.received < counters.sent; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    counters = await netCounters(vm);
  }
  return counters;
}
