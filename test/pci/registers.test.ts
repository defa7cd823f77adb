import test from 'ava';
import fc from 'fast-check';
import { VvuError } from '../../src/errors.js';
import { RegisterFile, reserved, type Field } from '../../src/pci/registers.js';

function setup() {
  const effects: string[] = [];
  const fields: Field[] = [
    { name: 'ro', width: 2, reset: 0x1234 },
    {
      name: 'rw',
      width: 4,
      reset: 0xa0b0c0d0,
      writable: 0xffff_fff0,
      write: (value, previous) => effects.push(`rw ${value.toString(16)} ${previous.toString(16)}`),
    },
    { name: 'w1c', width: 1, reset: 0xff, w1c: 0x0f },
    reserved(3),
    {
      name: 'strobe',
      width: 2,
      writable: 0x00ff,
      strobe: 0x8000,
      write: (value) => effects.push(`strobe ${value.toString(16)}`),
    },
    {
      name: 'clear_on_read',
      width: 1,
      reset: 0x77,
      read: (value) => {
        effects.push('read');
        file.set('clear_on_read', 0);
        return value;
      },
    },
  ];
  const file: RegisterFile = new RegisterFile('test', fields, 13);
  const read = (offset: number, length: number): string => {
    const target = Buffer.alloc(length, 0xee);
    file.read(offset, target);
    return target.toString('hex');
  };
  const write = (offset: number, hex: string): void => file.write(offset, Buffer.from(hex, 'hex'));
  return { file, effects, read, write };
}

test('offsets follow from the widths, and the whole block reads at once', (t) => {
  const { file, read, effects } = setup();
  t.is(file.offsetOf('rw'), 2);
  t.is(file.offsetOf('strobe'), 10);
  t.is(read(0, 13), '3412' + 'd0c0b0a0' + 'ff' + '000000' + '0000' + '77');
  t.deepEqual(effects, ['read']);
  t.is(read(12, 1), '00');
});

test('any width and alignment reads the same bytes', (t) => {
  const { read } = setup();
  t.is(read(1, 3), '12d0c0');
  t.is(read(5, 2), 'a0ff');
  t.is(read(3, 8), 'c0b0a0ff00000000');
});

test('a write of a whole field has its effect once, with only the writable bits taken', (t) => {
  const { write, read, effects } = setup();
  write(2, '0f1f2f3f');
  t.deepEqual(effects, ['rw 3f2f1f00 a0b0c0d0']);
  t.is(read(2, 4), '001f2f3f');
});

test('a partial write keeps the bytes that it does not cover', (t) => {
  const { write, effects } = setup();
  write(4, 'ee');
  write(3, '1122');
  t.deepEqual(effects, ['rw a0eec0d0 a0b0c0d0', 'rw a02211d0 a0eec0d0']);
});

test('a write across fields reaches each of them in order, and not the read-only ones', (t) => {
  const { write, read, effects } = setup();
  write(0, 'ffff' + '55667788' + '05' + 'ffffff' + '2280' + 'ff');
  t.deepEqual(effects, ['rw 88776650 a0b0c0d0', 'strobe 8022']);
  t.is(read(0, 12), '3412' + '50667788' + 'fa' + '000000' + '2200');
});

test('strobe bits trigger only with the byte that holds them', (t) => {
  const { write, effects } = setup();
  write(11, '80');
  write(10, '33');
  write(11, '00');
  t.deepEqual(effects, ['strobe 8000', 'strobe 33', 'strobe 33']);
});

test('writes that only touch dead bits have no effect', (t) => {
  const { write, effects } = setup();
  write(0, 'ffff');
  write(7, 'ffffff');
  t.deepEqual(effects, []);
});

test('reset brings the reset values back without effects', (t) => {
  const { file, write, read, effects } = setup();
  write(2, '00000000');
  effects.length = 0;
  file.reset();
  t.is(read(2, 4), 'd0c0b0a0');
  t.deepEqual(effects, []);
});

test('a computed field takes partial writes on top of its computed value', (t) => {
  let value = 0x1122;
  const file = new RegisterFile(
    'computed',
    [{ name: 'a', width: 2, writable: 0xffff, get: () => value, write: (next) => (value = next) }],
    2,
  );
  file.write(1, Buffer.from([0x99]));
  t.is(value, 0x9922);
});

test('a table that does not add up is a bug of ours', (t) => {
  const cases: [Field[], number][] = [
    [[{ name: 'a', width: 2 }], 4],
    [[{ name: 'a', width: 4 }], 2],
    [[{ name: 'a', width: 3, writable: 1 }], 3],
    [[{ name: 'a', width: 0 }], 0],
    [[{ name: 'a', width: 1.5 }], 1.5],
    [
      [
        { name: 'a', width: 1 },
        { name: 'a', width: 1 },
      ],
      2,
    ],
  ];
  for (const [fields, size] of cases) {
    const error = t.throws(() => new RegisterFile('bad', fields, Math.ceil(size)), {
      instanceOf: VvuError,
    });
    t.is(error.scope, 'bug');
  }
  const file = setup().file;
  t.throws(() => file.get('nothing'), { code: 'REGISTER_TABLE' });
});

test('random accesses agree with a model made of single bits', (t) => {
  const masks = fc.record({
    width: fc.constantFrom(1, 2, 4),
    reset: fc.integer({ min: 0, max: 0xffffffff }),
    writable: fc.integer({ min: 0, max: 0xffffffff }),
    w1c: fc.integer({ min: 0, max: 0xffffffff }),
  });
  const access = fc.record({
    at: fc.nat(40),
    data: fc.uint8Array({ minLength: 1, maxLength: 24 }),
  });
  fc.assert(
    fc.property(
      fc.array(masks, { minLength: 1, maxLength: 8 }),
      fc.array(access),
      (rows, writes) => {
        const fields = rows.map(({ width, reset, writable, w1c }, index) => {
          const mask = 2 ** (8 * width) - 1;
          // A bit is either plainly writable or write-1-to-clear.
          const clear = (w1c & ~writable & mask) >>> 0;
          const plain = (writable & mask) >>> 0;
          return {
            name: `f${index}`,
            width,
            reset: (reset & mask) >>> 0,
            writable: plain,
            w1c: clear,
          };
        });
        const size = fields.reduce((sum, { width }) => sum + width, 0);
        const file = new RegisterFile('random', fields, size);
        const bytesOf = (pick: (field: (typeof fields)[number]) => number): number[] =>
          fields.flatMap((field) =>
            Array.from({ length: field.width }, (_, i) => (pick(field) >>> (8 * i)) & 0xff),
          );
        const model = bytesOf(({ reset }) => reset);
        const writable = bytesOf((field) => field.writable);
        const clear = bytesOf(({ w1c }) => w1c);
        for (const { at, data } of writes) {
          const offset = at % size;
          const part = data.subarray(0, size - offset);
          file.write(offset, part);
          part.forEach((byte, i) => {
            const old = model[offset + i] ?? 0;
            const w = writable[offset + i] ?? 0;
            model[offset + i] = ((old & ~w) | (byte & w)) & ~(byte & (clear[offset + i] ?? 0));
          });
        }
        const all = Buffer.alloc(size);
        file.read(0, all);
        return Buffer.from(model).equals(all);
      },
    ),
  );
  t.pass();
});
