import type { Logger } from '../../src/log.js';
import {
  composeVirtioPciFunction,
  FunctionInterrupts,
  type InterruptHost,
  type MsixMessage,
  type MsixOwnership,
  type PciFunction,
  type VirtioPciOptions,
} from '../../src/pci/index.js';
import type {
  Binding,
  DriverPort,
  QueueConfig,
  RegisterBlock,
  VirtioDevice,
} from '../../src/virtio/ports.js';
import { FakeMemory } from '../virtio/fake-memory.js';

/** Collects the constant messages of warnings and errors. */
export class RecordingLog implements Logger {
  readonly lines: string[] = [];
  readonly trace = (): void => undefined;
  readonly debug = (): void => undefined;
  readonly info = (): void => undefined;
  warn(fields: object, message: string): void {
    this.lines.push(`warn ${message} ${JSON.stringify(fields)}`);
  }
  error(fields: object, message: string): void {
    this.lines.push(`error ${message} ${JSON.stringify(fields)}`);
  }
  child(): Logger {
    return this;
  }
  isLevelEnabled(): boolean {
    return false;
  }
}

/** Plain bytes as a register block. */
export class RamBlock implements RegisterBlock {
  readonly bytes: Buffer;
  constructor(readonly size: number) {
    this.bytes = Buffer.alloc(size);
  }
  read(offset: number, target: Uint8Array): void {
    this.bytes.copy(target, 0, offset, offset + target.length);
  }
  write(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
  }
}

/** A virtio device that writes down what its transport does with it. */
export class FakeDevice implements VirtioDevice {
  readonly virtioId: number = 24;
  features = (1n << 32n) | (1n << 33n) | (1n << 40n) | (1n << 29n) | 1n;
  queueMaxSizes: readonly number[] = [256, 128];
  readonly config = new RamBlock(24);
  readonly events: string[] = [];
  readonly queues: QueueConfig[] = [];
  accept = true;
  port: DriverPort | undefined;
  /** Thrown by the next call of the named method. */
  failure: { readonly method: string; readonly error: Error } | undefined;

  attach(port: DriverPort): void {
    this.port = port;
  }
  acceptFeatures(features: bigint): boolean {
    this.#call('acceptFeatures', features.toString(16));
    return this.accept;
  }
  enableQueue(queue: QueueConfig): void {
    this.#call('enableQueue', queue.index);
    this.queues.push(queue);
  }
  resetQueue(index: number): void {
    this.#call('resetQueue', index);
  }
  start(): void {
    this.#call('start');
  }
  kick(index: number): void {
    this.#call('kick', index);
  }
  reset(): void {
    this.#call('reset');
  }

  /** What happened since the last call. */
  take(): string[] {
    return this.events.splice(0);
  }

  #call(method: string, ...values: (string | number)[]): void {
    this.events.push([method, ...values].join(' '));
    const failure = this.failure;
    if (failure?.method !== method) return;
    this.failure = undefined;
    throw failure.error;
  }
}

interface Watch {
  readonly eventfd: number;
  readonly onSignal: () => void;
}

/** A host that writes interrupts down, and simulates eventfds by number. */
export class FakeInterruptHost implements InterruptHost {
  readonly events: string[] = [];
  readonly relays = new Map<number, { vector: number; message: MsixMessage }>();
  readonly watches = new Map<number, Watch>();
  bindEventFd?: (eventfd: number, vector: number, message: MsixMessage) => Binding;

  constructor(canRelay: boolean) {
    if (!canRelay) return;
    this.bindEventFd = (eventfd, vector, message) => {
      if (this.relays.has(eventfd)) throw new Error(`eventfd ${eventfd} is relayed already`);
      this.relays.set(eventfd, { vector, message });
      return { close: () => this.relays.delete(eventfd) };
    };
  }

  msix(vector: number, { address, data }: MsixMessage): void {
    this.events.push(`msix ${vector} ${address.toString(16)} ${data.toString(16)}`);
  }
  intx(asserted: boolean): void {
    this.events.push(`intx ${asserted}`);
  }
  watchEventFd(eventfd: number, onSignal: () => void): Binding {
    if (this.watches.has(eventfd)) throw new Error(`eventfd ${eventfd} is watched already`);
    this.watches.set(eventfd, { eventfd, onSignal });
    return { close: () => this.watches.delete(eventfd) };
  }
  signal(eventfd: number): void {
    this.watches.get(eventfd)?.onSignal();
  }
  take(): string[] {
    return this.events.splice(0);
  }
}

export interface SetupOptions {
  readonly vectors?: number;
  readonly ownership?: MsixOwnership;
  readonly canRelay?: boolean;
  readonly device?: FakeDevice;
  readonly compose?: Partial<VirtioPciOptions>;
}

export const WINDOW_SIZE = 0x10000;

/**
 * BAR 0: common at 0, isr at 0x1000, device at 0x2000, notify at 0x3000. BAR 1: MSI-X table at 0,
 * PBA at 0x8000. BAR 2: doorbells. BAR 4: a 64-bit prefetchable window.
 */
export function setup(options: SetupOptions = {}) {
  const { vectors = 3, ownership = 'function', device = new FakeDevice() } = options;
  const host = new FakeInterruptHost(options.canRelay ?? false);
  const log = new RecordingLog();
  const interrupts = new FunctionInterrupts({ host, vectors, ownership });
  const doorbells = new RamBlock(0x800);
  const window = new RamBlock(WINDOW_SIZE);
  const composed = composeVirtioPciFunction({
    device,
    memory: new FakeMemory(0x1000),
    interrupts,
    ids: { deviceId: 0x1058, subsystemId: 0x1100 },
    bars: [
      { index: 0, size: 0x4000, kind: 'memory32', prefetchable: false },
      { index: 1, size: 0x10000, kind: 'memory32', prefetchable: false },
      { index: 2, size: 0x1000, kind: 'memory32', prefetchable: false },
      { index: 4, size: WINDOW_SIZE, kind: 'memory64', prefetchable: true },
    ],
    structures: {
      common: { bar: 0, offset: 0 },
      isr: { bar: 0, offset: 0x1000 },
      device: { bar: 0, offset: 0x2000 },
      notify: { bar: 0, offset: 0x3000 },
    },
    ...(vectors > 0 && {
      msix: { table: { bar: 1, offset: 0 }, pba: { bar: 1, offset: 0x8000 } },
    }),
    blocks: [
      { bar: 2, offset: 0, block: doorbells },
      { bar: 4, offset: 0, block: window },
    ],
    capabilities: [
      { cfgType: 6, bar: 2, offset: 0, length: 0x800, multiplier: 4 },
      { cfgType: 7, bar: 2, offset: 0x800, length: 4 },
      { cfgType: 8, bar: 4, offset: 0, length: WINDOW_SIZE },
    ],
    logger: log,
    ...options.compose,
  });
  return { ...composed, device, host, log, interrupts, doorbells, window };
}

/** Little-endian accesses, as a CPU would make them. */
export class Cpu {
  constructor(readonly pci: PciFunction) {}

  config(offset: number, width: number): number {
    const bytes = Buffer.alloc(width, 0xee);
    this.pci.configRead(offset, bytes);
    return bytes.readUIntLE(0, width);
  }
  setConfig(offset: number, width: number, value: number): void {
    this.pci.configWrite(offset, le(width, value));
  }
  bar(bar: number, offset: number, width: number): number {
    const bytes = Buffer.alloc(width, 0xee);
    this.pci.barRead(bar, offset, bytes);
    return bytes.readUIntLE(0, width);
  }
  setBar(bar: number, offset: number, width: number, value: number): void {
    this.pci.barWrite(bar, offset, le(width, value));
  }
}

function le(width: number, value: number): Buffer {
  const bytes = Buffer.alloc(width);
  bytes.writeUIntLE(value, 0, width);
  return bytes;
}

export interface FoundCapability {
  readonly at: number;
  readonly id: number;
  readonly bytes: Buffer;
}

/** Walks the capability list as firmware does; throws on a loop or a bad pointer. */
export function walkCapabilities(pci: PciFunction): FoundCapability[] {
  const space = Buffer.alloc(4096);
  pci.configRead(0, space);
  if ((space.readUInt16LE(6) & 0x10) === 0) return [];
  const found: FoundCapability[] = [];
  for (let at = space.readUInt8(0x34); at !== 0; at = space.readUInt8(at + 1)) {
    if (at < 0x40 || at % 4 !== 0 || found.length > 48) throw new Error(`bad pointer ${at}`);
    const next = space.readUInt8(at + 1) || 256;
    found.push({ at, id: space.readUInt8(at), bytes: space.subarray(at, next) });
  }
  return found;
}

/** Offset of the capability with this id (and virtio cfg_type). */
export function capabilityAt(pci: PciFunction, id: number, cfgType?: number): number {
  const found = walkCapabilities(pci).find(
    (capability) =>
      capability.id === id && (cfgType === undefined || capability.bytes[3] === cfgType),
  );
  if (!found) throw new Error(`no capability ${id} ${cfgType ?? ''}`);
  return found.at;
}
