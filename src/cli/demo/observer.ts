import type { VvuDriver } from '../../guest/driver.js';
import type { WindowAccess } from '../../guest/pci-access.js';
import { decodeFrame, describeFrame, frontendMessage } from '../../vhost-user/index.js';
import type { MemoryRegion, VringFd } from '../../vhost-user/index.js';

/** A region of the frontend's memory as the guest finds it. */
export interface ObservedRegion extends MemoryRegion {
  readonly windowOffset: number;
  readonly mapped: boolean;
}

/** What the tunnel carried, seen from the backend's end of it. */
export class TunnelObserver {
  #regions: ObservedRegion[] = [];
  readonly #bound = { kick: new Set<number>(), call: new Set<number>(), err: new Set<number>() };

  constructor(
    driver: VvuDriver,
    private readonly window: WindowAccess,
    private readonly print: (line: string) => void,
  ) {
    driver.on('connected', () => print('  frontend connected'));
    driver.on('disconnected', (reason) => print(`  frontend left: ${reason}`));
    driver.on('message', (bytes) => this.#message(bytes));
    driver.on('sent', (bytes) => print(`  <- ${describeFrame(decodeFrame(bytes, 'LE'), 'LE')}`));
  }

  get regions(): readonly ObservedRegion[] {
    return this.#regions;
  }

  /** Vrings whose eventfds are bound: to a doorbell (call, err), or to an interrupt (kick). */
  bound(kind: 'kick' | 'call' | 'err'): readonly number[] {
    return [...this.#bound[kind]].sort((a, b) => a - b);
  }

  #message(bytes: Buffer): void {
    const frame = decodeFrame(bytes, 'LE');
    this.print(`  -> ${describeFrame(frame, 'LE')}`);
    const descriptor = frontendMessage(frame.request);
    if (descriptor === undefined) return;
    const value = descriptor.request.decode(frame.payload, 'LE');
    switch (descriptor.name) {
      case 'SET_MEM_TABLE':
        this.#regions = this.#place(value as readonly MemoryRegion[]);
        break;
      case 'ADD_MEM_REG':
        this.#regions.push(...this.#place([value as MemoryRegion]));
        break;
      case 'SET_VRING_KICK':
        this.#note('kick', value as VringFd);
        break;
      case 'SET_VRING_CALL':
        this.#note('call', value as VringFd);
        break;
      case 'SET_VRING_ERR':
        this.#note('err', value as VringFd);
        break;
      default:
        break;
    }
  }

  #note(kind: 'kick' | 'call' | 'err', { index, noFd }: VringFd): void {
    if (noFd) this.#bound[kind].delete(index);
    else this.#bound[kind].add(index);
  }

  /** The rule of docs/protocol.md: each region takes size + mmap_offset bytes of the window. */
  #place(regions: readonly MemoryRegion[]): ObservedRegion[] {
    let sum = 0;
    return regions.map((region) => {
      const windowOffset = sum + Number(region.mmapOffset);
      sum = windowOffset + Number(region.size);
      const mapped = this.window.mapped(windowOffset, Number(region.size));
      return { ...region, windowOffset, mapped };
    });
  }
}
