import type { Native, NativeRelay } from '../native.js';
import type { ConfigFile } from './config-file.js';
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE } from './constants.js';
import type { IntxInterrupt } from './pci-access.js';

/**
 * INTx of a function that is bound to uio_pci_generic. Its handler sets Interrupt Disable before it
 * counts the interrupt in /dev/uioN; a native thread turns the count into a signal.
 */
export class UioInterrupt implements IntxInterrupt {
  readonly eventfd: number;
  private readonly relay: NativeRelay;
  private closed = false;

  /** @param uio an open /dev/uioN, which stays the caller's */
  constructor(
    private readonly native: Pick<Native, 'createEventFd' | 'relayUio' | 'closeFd'>,
    private readonly config: ConfigFile,
    uio: number,
  ) {
    this.eventfd = native.createEventFd();
    try {
      this.relay = native.relayUio(uio, this.eventfd);
    } catch (error) {
      native.closeFd(this.eventfd);
      throw error;
    }
  }

  unmask(): void {
    this.setDisable(false);
  }

  mask(): void {
    this.setDisable(true);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.relay.close();
    this.native.closeFd(this.eventfd);
  }

  /** Nobody else writes the register meanwhile: the kernel's handler does only while it is clear. */
  private setDisable(disabled: boolean): void {
    const command = this.config.read(PCI_COMMAND, 2);
    const others = command.readUInt16LE() & ~PCI_COMMAND_INTX_DISABLE;
    command.writeUInt16LE(disabled ? others | PCI_COMMAND_INTX_DISABLE : others);
    this.config.write(PCI_COMMAND, command);
  }
}
