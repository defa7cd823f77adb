import { VvuError } from '../errors.js';
import type { Native } from '../native.js';
import type {
  DoorbellKind,
  FrontendInflight,
  FrontendLog,
  FrontendRegion,
  ProvidedInflight,
  SharedMemory,
  ShownRegion,
  TunnelBackend,
  TunnelSession,
} from '../tunnel/ports.js';
import { Doorbells } from './doorbells.js';
import { Kicks, NotificationRegisters } from './kicks.js';
import { MemoryTable } from './memory-table.js';
import type { DeviceHost, ShownWindowRegion } from './ports.js';

/** What the attachment asks of the device around it. */
export interface AttachmentOwner {
  toGuest(message: Uint8Array): boolean;
  dropFrontend(reason: string): void;
  memoryChanged(regions: readonly ShownWindowRegion[]): void;
  sessionClosed(session: TunnelSession, code: string, detail: string): void;
}

/**
 * Everything that the device holds for one frontend connection: eventfds behind doorbells and
 * kicks, and the memory in the window. The tunnel's session acts on it.
 */
export class FrontendAttachment implements TunnelBackend {
  readonly doorbells: Doorbells;
  readonly kicks: Kicks;
  readonly notificationRegisters: NotificationRegisters;
  readonly memory: MemoryTable;

  constructor(
    native: Native,
    private readonly host: DeviceHost,
    readonly maxVhostQueues: number,
    private readonly owner: AttachmentOwner,
  ) {
    this.doorbells = new Doorbells(native, host.doorbells, maxVhostQueues);
    this.kicks = new Kicks(native, host.kicks, maxVhostQueues);
    this.notificationRegisters = new NotificationRegisters(this.kicks);
    this.memory = new MemoryTable(native, host.window, (region) =>
      owner.dropFrontend(`the frontend's memory file shrank: ${region}`),
    );
  }

  toGuest(message: Uint8Array): boolean {
    return this.owner.toGuest(message);
  }

  async setMemoryTable(regions: readonly FrontendRegion[]): Promise<readonly ShownRegion[]> {
    return this.#report(await this.memory.set(regions));
  }

  async addMemoryRegion(region: FrontendRegion): Promise<ShownRegion | undefined> {
    return this.#report(await this.memory.add(region));
  }

  async removeMemoryRegion(region: Omit<FrontendRegion, 'fd'>): Promise<ShownRegion | undefined> {
    return this.#report(await this.memory.remove(region));
  }

  async setLog(log: FrontendLog): Promise<bigint> {
    return this.#report(await this.memory.setLog(log));
  }

  async createInflight(size: number): Promise<ProvidedInflight> {
    return this.#report(await this.memory.createInflight(size));
  }

  async setInflight(inflight: FrontendInflight): Promise<bigint> {
    return this.#report(await this.memory.setInflight(inflight));
  }

  shareMemory(address: bigint, length: bigint, writable: boolean): SharedMemory {
    const { memoryFiles } = this.host;
    if (memoryFiles === undefined) {
      throw new VvuError('NOT_SHARED', 'request', "the guest's memory is in no file");
    }
    return memoryFiles.share(address, length, writable);
  }

  bindDoorbell(kind: DoorbellKind, index: number, fd: number | undefined): void {
    this.doorbells.bind(kind, index, fd);
  }

  bindKick(index: number, fd: number | undefined): void {
    this.kicks.bind(index, fd);
  }

  sessionClosed(session: TunnelSession, code: string, detail: string): void {
    this.owner.sessionClosed(session, code, detail);
  }

  /** Takes back all that belongs to the frontend; resolves when the window shows nothing of it. */
  async release(): Promise<void> {
    this.doorbells.clear();
    this.kicks.clear();
    await this.memory.clear();
  }

  #report<T>(result: T): T {
    this.owner.memoryChanged(this.memory.shown);
    return result;
  }
}
