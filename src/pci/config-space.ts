/**
 * The configuration space of a PCI Express endpoint: type 0 header, capability chain, and an
 * extended area without capabilities (PCI Express 6.0 §7.5).
 */
import { VvuError } from '../errors.js';
import type { RegisterBlock } from '../virtio/ports.js';
import type { Capability } from './capabilities.js';
import {
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_PARITY,
  PCI_COMMAND_SERR,
  PCI_INTERRUPT_PIN_INTA,
  PCI_STATUS_CAP_LIST,
  PCI_STATUS_ERRORS,
  PCI_STATUS_INTERRUPT,
  PCI_STD_HEADER_SIZEOF,
  PCI_STD_NUM_BARS,
} from './constants.js';
import type { BarDefinition } from './ports.js';
import { RegisterFile, reserved, type Field } from './registers.js';

export interface PciIds {
  readonly vendorId: number;
  readonly deviceId: number;
  /** Default 1: a modern-only virtio device (virtio 1.3 §4.1.2.1). */
  readonly revisionId?: number;
  /** 24 bits: class, subclass, programming interface. Default 0xff0000, unassigned. */
  readonly classCode?: number;
  /** Default: the vendor and device ids. */
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
}

/** The bits of the command register that have an effect here. */
export interface CommandState {
  readonly memory: boolean;
  readonly busMaster: boolean;
  readonly intxDisabled: boolean;
}

export interface ConfigSpaceOptions {
  readonly ids: PciIds;
  readonly bars: readonly BarDefinition[];
  readonly capabilities: readonly Capability[];
  /** Whether INTx is pending, for the status register. */
  readonly interruptPending: () => boolean;
  /** The command register was written. */
  readonly commandWritten: (command: CommandState) => void;
}

export class ConfigSpace implements RegisterBlock {
  readonly size = PCI_CFG_SPACE_EXP_SIZE;
  readonly #registers: RegisterFile;
  readonly #options: ConfigSpaceOptions;

  constructor(options: ConfigSpaceOptions) {
    this.#options = options;
    const fields: Field[] = header(options, () => options.commandWritten(this.command));
    let offset = PCI_STD_HEADER_SIZEOF;
    options.capabilities.forEach((capability, index) => {
      const end = offset + capability.length;
      const last = index === options.capabilities.length - 1;
      const own = capabilityFields(`cap${index}.${capability.name}`, capability, last ? 0 : end);
      // Compiled on its own, too: that is where its length is checked against the specification's.
      new RegisterFile(capability.name, own, capability.length);
      fields.push(...own);
      offset = end;
    });
    if (offset > PCI_CFG_SPACE_SIZE) {
      throw new VvuError('BAD_LAYOUT', 'setup', `capabilities end at ${offset}, after 256`);
    }
    fields.push(reserved(PCI_CFG_SPACE_EXP_SIZE - offset));
    this.#registers = new RegisterFile('PCI configuration', fields, PCI_CFG_SPACE_EXP_SIZE);
  }

  get command(): CommandState {
    const value = this.#registers.get('command');
    return {
      memory: (value & PCI_COMMAND_MEMORY) !== 0,
      busMaster: (value & PCI_COMMAND_MASTER) !== 0,
      intxDisabled: (value & PCI_COMMAND_INTX_DISABLE) !== 0,
    };
  }

  /** The address that a guest has programmed into a BAR, whether or not it is decoded. */
  barAddress({ index, kind }: BarDefinition): bigint {
    const low = BigInt((this.#registers.get(`bar${index}`) & ~0xf) >>> 0);
    if (kind === 'memory32') return low;
    return low | (BigInt(this.#registers.get(`bar${index + 1}`)) << 32n);
  }

  read(offset: number, target: Uint8Array): void {
    this.#registers.read(offset, target);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#registers.write(offset, bytes);
  }

  /** Power-on values, without calling any effect. */
  reset(): void {
    this.#registers.reset();
    for (const capability of this.#options.capabilities) capability.reset?.();
  }
}

function capabilityFields(prefix: string, capability: Capability, next: number): Field[] {
  return [
    { name: `${prefix}.cap_id`, width: 1, reset: capability.id },
    { name: `${prefix}.cap_next`, width: 1, reset: next },
    ...capability.fields.map((field) =>
      field.name === 'reserved' ? field : { ...field, name: `${prefix}.${field.name}` },
    ),
  ];
}

function header(options: ConfigSpaceOptions, commandWritten: () => void): Field[] {
  const { ids, bars, capabilities, interruptPending } = options;
  const capList = capabilities.length > 0;
  return [
    { name: 'vendor_id', width: 2, reset: ids.vendorId },
    { name: 'device_id', width: 2, reset: ids.deviceId },
    {
      name: 'command',
      width: 2,
      // No I/O space: there is no I/O BAR.
      writable:
        PCI_COMMAND_MEMORY |
        PCI_COMMAND_MASTER |
        PCI_COMMAND_PARITY |
        PCI_COMMAND_SERR |
        PCI_COMMAND_INTX_DISABLE,
      write: commandWritten,
    },
    {
      name: 'status',
      width: 2,
      // The function detects no bus errors, so nothing ever sets the bits that software may clear.
      w1c: PCI_STATUS_ERRORS,
      get: () =>
        (capList ? PCI_STATUS_CAP_LIST : 0) | (interruptPending() ? PCI_STATUS_INTERRUPT : 0),
    },
    { name: 'revision_id', width: 1, reset: ids.revisionId ?? 1 },
    ...classCode(ids.classCode ?? 0xff0000),
    { name: 'cache_line_size', width: 1, writable: 0xff },
    { name: 'latency_timer', width: 1 },
    { name: 'header_type', width: 1 },
    { name: 'bist', width: 1 },
    ...barFields(bars),
    { name: 'cardbus_cis_pointer', width: 4 },
    { name: 'subsystem_vendor_id', width: 2, reset: ids.subsystemVendorId ?? ids.vendorId },
    { name: 'subsystem_id', width: 2, reset: ids.subsystemId ?? ids.deviceId },
    // Read-only zero, also after sizing: there is no expansion ROM.
    { name: 'expansion_rom_base_address', width: 4 },
    { name: 'capabilities_pointer', width: 1, reset: capList ? PCI_STD_HEADER_SIZEOF : 0 },
    reserved(7),
    { name: 'interrupt_line', width: 1, writable: 0xff },
    { name: 'interrupt_pin', width: 1, reset: PCI_INTERRUPT_PIN_INTA },
    { name: 'min_gnt', width: 1 },
    { name: 'max_lat', width: 1 },
  ];
}

function classCode(code: number): Field[] {
  return [
    { name: 'programming_interface', width: 1, reset: code & 0xff },
    { name: 'subclass', width: 1, reset: (code >>> 8) & 0xff },
    { name: 'class', width: 1, reset: (code >>> 16) & 0xff },
  ];
}

/**
 * Six dwords. Only the address bits above a BAR's size are writable, so that all ones read back as
 * its size, and the type bits survive any write (§7.5.1.2.1).
 */
function barFields(bars: readonly BarDefinition[]): Field[] {
  const fields: Field[] = [];
  while (fields.length < PCI_STD_NUM_BARS) {
    const index = fields.length;
    const bar = bars.find((candidate) => candidate.index === index);
    if (!bar) {
      fields.push({ name: `bar${index}`, width: 4 });
      continue;
    }
    const prefetch = bar.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
    const type = bar.kind === 'memory64' ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0;
    const mask = BigInt.asUintN(64, -BigInt(bar.size));
    const low = Number(BigInt.asUintN(32, mask));
    fields.push({ name: `bar${index}`, width: 4, reset: type | prefetch, writable: low });
    if (bar.kind === 'memory64') {
      fields.push({ name: `bar${index + 1}`, width: 4, writable: Number(mask >> 32n) });
    }
  }
  return fields;
}
