import test from 'ava';
import fc from 'fast-check';
import { packForGuest, placeRegions, rangesOverlap } from '../../src/device/placement.js';
import type { PlaceableRegion } from '../../src/device/placement.js';

const MIB = 2 ** 20;
const other = { dev: 1n, ino: 7n };
const presetFile = { dev: 9n, ino: 42n, size: 16 * MIB };

function region(length: number, fileOffset = 0, file = other): PlaceableRegion {
  return { length, fileOffset, ...file };
}

/** What a driver of 2018/2019 computes: each region takes size + mmap_offset, one after the other. */
function driverPlaces(table: { region: PlaceableRegion; mmapOffset: number }[]): number[] {
  let sum = 0;
  return table.map(({ region: { length }, mmapOffset }) => {
    const place = sum + mmapOffset;
    sum += length + mmapOffset;
    return place;
  });
}

test('foreign regions are packed back to back from the start of the window', (t) => {
  const window = { size: 64 * MIB, preset: undefined, dynamic: false };
  const placed = placeRegions(window, [], [region(MIB, 4096), region(2 * MIB)]);
  t.deepEqual(
    placed.map(({ placement }) => placement),
    [
      { offset: 0, kind: 'trapped' },
      { offset: MIB, kind: 'trapped' },
    ],
  );
  t.deepEqual(
    packForGuest(placed).map(({ mmapOffset }) => mmapOffset),
    [0, 0],
  );
});

test('regions of the preset file lie at their file offsets, and others behind the file', (t) => {
  const window = { size: 64 * MIB, preset: presetFile, dynamic: false };
  const regions = [
    region(4 * MIB, 12 * MIB, presetFile),
    region(MIB),
    region(2 * MIB, MIB, presetFile),
  ];
  const placed = placeRegions(window, [], regions);
  t.deepEqual(
    placed.map(({ placement }) => placement),
    [
      { offset: 12 * MIB, kind: 'preset' },
      { offset: 16 * MIB, kind: 'trapped' },
      { offset: MIB, kind: 'preset' },
    ],
  );
  const table = packForGuest(placed);
  t.deepEqual(driverPlaces(table), [MIB, 12 * MIB, 16 * MIB]);
});

test('a region behind the end of the shown part of the preset file is refused', (t) => {
  const window = { size: 64 * MIB, preset: presetFile, dynamic: false };
  const error = t.throws(() => placeRegions(window, [], [region(MIB, 16 * MIB, presetFile)]));
  t.like(error, { code: 'WINDOW_FULL', scope: 'request' });
});

test('what does not fit is refused, with the size in the message', (t) => {
  const window = { size: 4 * MIB, preset: undefined, dynamic: false };
  const error = t.throws(() => placeRegions(window, [], [region(3 * MIB), region(2 * MIB)]));
  t.like(error, { code: 'WINDOW_FULL', scope: 'request' });
  t.regex(error.message, /0x200000/);
});

test('a dynamic window maps what is page aligned and traps the rest', (t) => {
  const window = { size: 64 * MIB, preset: undefined, dynamic: true };
  const placed = placeRegions(window, [], [region(MIB), region(5000), region(MIB, 8192)]);
  t.deepEqual(
    placed.map(({ placement }) => placement),
    [
      { offset: 0, kind: 'dynamic' },
      { offset: MIB, kind: 'trapped' },
      { offset: MIB + 8192, kind: 'dynamic' },
    ],
  );
});

test('an added region takes the first gap that holds it', (t) => {
  const window = { size: 8 * MIB, preset: undefined, dynamic: false };
  const first = placeRegions(window, [], [region(MIB), region(MIB), region(MIB)]);
  const occupied = [first[0]!, first[2]!];
  const [added] = placeRegions(window, occupied, [region(MIB)]);
  t.is(added?.placement.offset, MIB);
  const [large] = placeRegions(window, occupied, [region(2 * MIB)]);
  t.is(large?.placement.offset, 3 * MIB);
});

test('no two places overlap, and a packing driver finds each of them', (t) => {
  const anyRegion = fc.record({
    length: fc.integer({ min: 1, max: 3 * MIB }),
    fileOffset: fc.constantFrom(0, 4096, 12345),
  });
  fc.assert(
    fc.property(fc.array(anyRegion, { maxLength: 8 }), fc.boolean(), (regions, dynamic) => {
      const window = { size: 64 * MIB, preset: presetFile, dynamic };
      const placed = placeRegions(
        window,
        [],
        regions.map(({ length, fileOffset }) => region(length, fileOffset)),
      );
      const table = packForGuest(placed);
      const places = driverPlaces(table);
      const known = new Map(placed.map((one) => [one.region, one.placement.offset]));
      table.forEach((one, i) => t.is(places[i], known.get(one.region)));
      for (const a of placed) {
        for (const b of placed) {
          if (a === b) continue;
          t.false(
            rangesOverlap(a.placement.offset, a.region.length, b.placement.offset, b.region.length),
          );
        }
      }
    }),
  );
});
