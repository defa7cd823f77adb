/** vfio-user messages put together by hand from the specification, right or wrong. */

/** A little-endian structure: `u32(…)`, `u64(…)` in a row. */
export const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32LE(value, 4 * i));
  return bytes;
};
export const u64 = (...values: bigint[]): Buffer => {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, i) => bytes.writeBigUInt64LE(value, 8 * i));
  return bytes;
};

interface Header {
  readonly size?: number;
  readonly flags?: number;
}

/** Header of 16 bytes (u16 id, u16 command, u32 size, u32 flags, u32 errno) and the payload. */
export function message(
  command: number,
  payload: Buffer = Buffer.alloc(0),
  header: Header = {},
): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(0x77, 0);
  bytes.writeUInt16LE(command, 2);
  bytes.writeUInt32LE(header.size ?? 16 + payload.length, 4);
  bytes.writeUInt32LE(header.flags ?? 0, 8);
  return Buffer.concat([bytes, payload]);
}

export function version(json: string, major = 0, minor = 0): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(major, 0);
  head.writeUInt16LE(minor, 2);
  return message(1, Buffer.concat([head, Buffer.from(json), Buffer.alloc(1)]));
}
