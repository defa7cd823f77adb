const FACTOR = 0x9e3779b97f4a7c15n;

/** `length` bytes of the pattern that the probe's bar-fill stores; its twin is in guest/pci.c. */
export function pattern(length: number, seed: number): Buffer {
  const words = BigUint64Array.from({ length: length / 8 }, (_, i) => BigInt(seed + i) * FACTOR);
  return Buffer.from(words.buffer);
}
