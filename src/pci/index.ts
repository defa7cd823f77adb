/**
 * PCI functions, and the virtio-pci transport that dresses any virtio device in one.
 *
 * A host makes {@link FunctionInterrupts} first (they are a `KickHost` for the device), then the
 * device, then puts both together with {@link composeVirtioPciFunction}.
 */
export { composeVirtioPciFunction } from './compose.js';
export type { BlockPlacement, VirtioPciFunction, VirtioPciOptions } from './compose.js';
export { PciFunction } from './function.js';
export type { PciFunctionDescription, PciFunctionOptions } from './function.js';
export { NOTIFY_OFF_MULTIPLIER } from './notify.js';
export { FunctionInterrupts } from './interrupts.js';
export type { InterruptOptions } from './interrupts.js';
export type { MsixOwnership } from './msix.js';
export { pciCfgCapability, virtioCapability } from './capabilities.js';
export type { Capability, VirtioCapability } from './capabilities.js';
export type { CommandState, PciIds } from './config-space.js';
export type {
  Bar,
  BarDefinition,
  BarKind,
  BarRegion,
  InterruptHost,
  MsixMessage,
  Placement,
  ResetKind,
} from './ports.js';
export { RegisterFile, reserved } from './registers.js';
export type { Field } from './registers.js';
export { VirtioPciTransport } from './virtio-pci.js';
