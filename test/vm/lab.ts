import type { Vm } from './qemu.js';

/** A VM of a lab, for a person who looks around in it. */
export interface LabVm {
  readonly vm: Vm;
  /** Commands that are worth a try at its console. */
  readonly hints: readonly string[];
}

/** VMs that are up and serve each other, the same for a test and for `npm run vm`. */
export interface Lab {
  readonly vms: readonly LabVm[];
  /** Does what this lab is for, once, and says what came of it. */
  show(): Promise<void>;
  /** Ends all of it. */
  close(): Promise<void>;
}

export interface LabOptions {
  /** Large files go here: an empty folder in memory. */
  readonly folder: string;
  /** Told of each step, and how long it took. */
  readonly say: (line: string) => void;
  /** Told of each line that a device logs. */
  readonly deviceLog?: (line: string) => void;
}

/** One kind of lab, by which `npm run vm` offers it. */
export interface LabKind {
  readonly summary: string;
  /** What is connected with what, to be printed. */
  readonly picture: string;
  start(options: LabOptions): Promise<Lab>;
}
