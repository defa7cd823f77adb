/** PCI and PCI Express constants, named as in Linux's pci_regs.h (which follows the standards). */

/** Bytes of a PCI Express function's configuration space; conventional part of it. */
export const PCI_CFG_SPACE_EXP_SIZE = 4096;
export const PCI_CFG_SPACE_SIZE = 256;
/** Bytes of the standard header: capabilities start here. */
export const PCI_STD_HEADER_SIZEOF = 64;
export const PCI_STD_NUM_BARS = 6;

export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_PARITY = 0x40;
export const PCI_COMMAND_SERR = 0x100;
export const PCI_COMMAND_INTX_DISABLE = 0x400;

export const PCI_STATUS_INTERRUPT = 0x8;
export const PCI_STATUS_CAP_LIST = 0x10;
/** Error bits of the status register, all write-1-to-clear. */
export const PCI_STATUS_ERRORS = 0xf900;

export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;

export const PCI_INTERRUPT_PIN_INTA = 1;

export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;

/** Bytes of the PCI Express capability of an endpoint, by capability version. */
export const PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 = 20;
export const PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 = 60;
export const PCI_EXP_DEVCAP_RBER = 0x8000;
export const PCI_EXP_DEVCAP_FLR = 0x1000_0000;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;

export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_MSIX_MAX_VECTORS = 2048;
export const PCI_MSIX_ENTRY_SIZE = 16;
