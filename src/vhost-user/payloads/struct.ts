import { badSize, hex, viewOf, type ByteOrder, type PayloadCodec } from '../codec.js';

/** Kind of a field; `x` stands for hexadecimal in text, `padN` for N ignored bytes. */
export type FieldKind = 'u8' | 'u16' | 'u32' | 'x32' | 'u64' | 'pad4' | 'pad6' | 'pad7' | 'pad8';

/** Fields in wire order, without gaps. */
export type FieldTable = Readonly<Record<string, FieldKind>>;

/** The value that a field table describes: u64 are bigint, padding is left out. */
export type StructValue<F extends FieldTable> = {
  readonly [K in keyof F as F[K] extends `pad${number}` ? never : K]: F[K] extends 'u64'
    ? bigint
    : number;
};

const sizes: Readonly<Record<FieldKind, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  x32: 4,
  u64: 8,
  pad4: 4,
  pad6: 6,
  pad7: 7,
  pad8: 8,
};

type Scalars = Record<string, number | bigint>;

function readField(view: DataView, kind: FieldKind, offset: number, little: boolean) {
  switch (kind) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, little);
    case 'u32':
    case 'x32':
      return view.getUint32(offset, little);
    case 'u64':
      return view.getBigUint64(offset, little);
    default:
      return undefined;
  }
}

function writeField(
  view: DataView,
  kind: FieldKind,
  offset: number,
  value: number | bigint | undefined,
  little: boolean,
): void {
  if (kind === 'u64') {
    view.setBigUint64(offset, BigInt(value ?? 0), little);
  } else if (kind === 'u32' || kind === 'x32') {
    view.setUint32(offset, Number(value ?? 0), little);
  } else if (kind === 'u16') {
    view.setUint16(offset, Number(value ?? 0), little);
  } else if (kind === 'u8') {
    view.setUint8(offset, Number(value ?? 0));
  }
}

/** One fixed-size structure at an offset of a larger payload. */
export class Struct<F extends FieldTable> {
  readonly size: number;

  constructor(readonly fields: F) {
    this.size = Object.values(fields).reduce((sum, kind) => sum + sizes[kind], 0);
  }

  /** The caller has checked that the structure lies within the bytes. */
  read(bytes: Uint8Array, at: number, order: ByteOrder): StructValue<F> {
    const view = viewOf(bytes);
    const value: Scalars = {};
    let offset = at;
    for (const [name, kind] of Object.entries(this.fields)) {
      const field = readField(view, kind, offset, order === 'LE');
      if (field !== undefined) {
        value[name] = field;
      }
      offset += sizes[kind];
    }
    return value as StructValue<F>;
  }

  /** Padding is left as it is: fresh buffers are zero. */
  write(bytes: Uint8Array, at: number, value: StructValue<F>, order: ByteOrder): void {
    const view = viewOf(bytes);
    const scalars = value as Scalars;
    let offset = at;
    for (const [name, kind] of Object.entries(this.fields)) {
      writeField(view, kind, offset, scalars[name], order === 'LE');
      offset += sizes[kind];
    }
  }

  describe(value: StructValue<F>): string {
    const scalars = value as Scalars;
    return Object.entries(this.fields)
      .filter(([name]) => scalars[name] !== undefined)
      .map(([name, kind]) => {
        const field = scalars[name] ?? 0;
        return `${name}=${kind === 'u64' || kind === 'x32' ? hex(field) : String(field)}`;
      })
      .join(' ');
  }
}

/** A payload that is one structure; `check` throws on reserved bits and overflow. */
export function structCodec<F extends FieldTable>(
  name: string,
  fields: F,
  check?: (value: StructValue<F>) => void,
): PayloadCodec<StructValue<F>> {
  const layout = new Struct(fields);
  return {
    name,
    minSize: layout.size,
    maxSize: layout.size,
    decode(bytes, order) {
      if (bytes.length !== layout.size) {
        throw badSize(name, bytes.length, String(layout.size));
      }
      const value = layout.read(bytes, 0, order);
      check?.(value);
      return value;
    },
    encode(value, order) {
      const bytes = Buffer.alloc(layout.size);
      layout.write(bytes, 0, value, order);
      return bytes;
    },
    describe: (value) => layout.describe(value),
  };
}
