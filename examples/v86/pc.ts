import { readFile } from 'node:fs/promises';
import { V86 } from 'v86';
import {
  createVirtioVhostUserDevice,
  type VirtioVhostUserFunction,
} from '../../src/hosts/in-process/index.js';
import type { V86Cpu } from './machine.js';
import { guestMemory, interrupts, plug } from './plug.js';

/** Bus 0, device 5, function 0: where v86 has its NE2000, which this PC does without. */
const BDF = 5 << 3;
const MEMORY = 128 << 20;
/** Bytes of frontend memory that the guest can see. */
const WINDOW = 16 << 20;
/** The backend's memory, which the kernel leaves alone: see `guest/init.sh`. */
const RESERVED = 'memmap=8M$112M';
const COMMAND_LINE = `console=ttyS0 quiet tsc=reliable mitigations=off nowatchdog ${RESERVED}`;

export interface PcOptions {
  /** Paths. */
  readonly image: Readonly<Record<'bios' | 'vgaBios' | 'kernel' | 'initrd', string>>;
  /** Where the device listens for frontends. */
  readonly socket: string;
  /** Each line of the guest's serial console. */
  readonly onLine: (line: string) => void;
}

/** A PC in this process with the device in it. */
export interface Pc {
  readonly device: VirtioVhostUserFunction;
  /** Stops the machine and unplugs the device. */
  close(): Promise<void>;
}

/** Boots a PC; resolves when it runs, long before its guest is up. */
export async function startPc({ image, socket, onLine }: PcOptions): Promise<Pc> {
  const emulator = new V86({
    wasm_path: new URL(import.meta.resolve('v86/build/v86.wasm')).pathname,
    memory_size: MEMORY,
    vga_memory_size: 2 << 20,
    bios: { buffer: await bytes(image.bios) },
    vga_bios: { buffer: await bytes(image.vgaBios) },
    bzimage: { buffer: await bytes(image.kernel) },
    initrd: { buffer: await bytes(image.initrd) },
    cmdline: COMMAND_LINE,
    autostart: false,
    disable_speaker: true,
  });
  let line = '';
  emulator.add_listener('serial0-output-byte', (byte) => {
    const character = String.fromCharCode(byte);
    if (character === '\n') {
      onLine(line);
      line = '';
    } else if (character !== '\r') {
      line += character;
    }
  });
  await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', () => resolve()));
  // Not part of the package's types: `machine.ts` describes what is used of it.
  const { cpu } = (emulator as unknown as { v86: { cpu: V86Cpu } }).v86;
  const device = createVirtioVhostUserDevice({
    memory: guestMemory(cpu),
    interrupts: interrupts(cpu, BDF),
    window: { size: WINDOW },
    vhostUserPath: socket,
    maxVhostQueues: 8,
  });
  plug(cpu, BDF, device);
  await emulator.run();
  return {
    device,
    close: async () => {
      await emulator.destroy();
      await device.close();
    },
  };
}

async function bytes(path: string): Promise<ArrayBuffer> {
  return new Uint8Array(await readFile(path)).buffer;
}
