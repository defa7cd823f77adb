import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { native } from '../../src/native.js';
import type { NativeMemory } from '../../src/native.js';
import { codeOf, openFds, temporaryDirectory, turns, until } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

function memory(size = 8192, writable = true): NativeMemory {
  const fd = native.createMemfd('memory-test', size);
  const result = native.map(fd, { offset: 0, length: size, writable });
  native.closeFd(fd);
  return result;
}

/** Mappings of this process whose file has `name` in it. */
function mappings(name: string): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name)).length;
}

const sixtyFourGiB = 64 * 2 ** 30;
const badOffsets = [Number.NaN, -1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY, -0.1];

test.serial('reads, writes, copies and fills', (t) => {
  const region = memory();
  region.write(10, Buffer.from('0123456789'));
  t.is(region.read(12, 4).toString(), '2345');
  const target = new Uint8Array(3);
  region.readInto(17, target);
  t.deepEqual([...target], [0x37, 0x38, 0x39]);
  region.copyFrom(region, 10, 12, 10);
  t.is(region.read(10, 12).toString(), '010123456789');
  const other = memory(4096);
  other.copyFrom(region, 10, 4086, 10);
  t.is(other.read(4086, 10).toString(), '0101234567');
  other.fill(4090, 6, 0x41);
  t.is(other.read(4086, 10).toString(), '0101AAAAAA');
  t.is(region.read(8192, 0).length, 0);
  region.release();
  other.release();
});

test.serial('every access is bounds-checked without overflow', (t) => {
  const region = memory();
  const one = Buffer.alloc(1);
  const offsets = [8192, 8193, 2 ** 53 - 1, ...badOffsets];
  for (const offset of offsets) {
    const attempts = [
      () => region.read(offset, 1),
      () => {
        region.readInto(offset, one);
      },
      () => {
        region.write(offset, one);
      },
      () => {
        region.copyFrom(region, offset, 0, 1);
      },
      () => {
        region.copyFrom(region, 0, offset, 1);
      },
      () => {
        region.fill(offset, 1, 0);
      },
      () => region.view(offset, 1),
      () => region.loadU16(offset),
      () => region.loadU32(offset),
      () => {
        region.storeU16(offset, 0);
      },
      () => {
        region.storeU32(offset, 0);
      },
    ];
    for (const [index, attempt] of attempts.entries()) {
      t.is(codeOf(attempt), 'OUT_OF_RANGE', `${offset} ${index}`);
    }
  }
  for (const length of [8193, 2 ** 53 - 1, ...badOffsets]) {
    t.is(
      codeOf(() => region.read(0, length)),
      'OUT_OF_RANGE',
    );
    t.is(
      codeOf(() => region.view(0, length)),
      'OUT_OF_RANGE',
    );
    t.is(
      codeOf(() => {
        region.fill(1, length, 0);
      }),
      'OUT_OF_RANGE',
    );
  }
  for (const value of [256, -1, 1.5]) {
    t.is(
      codeOf(() => {
        region.fill(0, 1, value);
      }),
      'OUT_OF_RANGE',
    );
  }
  t.is(
    codeOf(() => region.read('0' as unknown as number, 1)),
    'ERR_INVALID_ARG_TYPE',
  );
  t.is(
    codeOf(() => {
      region.copyFrom({} as NativeMemory, 0, 0, 1);
    }),
    'ERR_INVALID_ARG_TYPE',
  );
  const forged = Object.create(Object.getPrototypeOf(region) as object) as NativeMemory;
  t.is(
    codeOf(() => {
      region.copyFrom(forged, 0, 0, 1);
    }),
    'ERR_INVALID_ARG_TYPE',
  );
  region.release();
});

test.serial('loads and stores are little-endian and need natural alignment', (t) => {
  const region = memory(4096);
  region.write(0, Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]));
  t.is(region.loadU16(2), 0x0403);
  t.is(region.loadU32(4), 0x08070605);
  region.storeU16(2, 0xbeef);
  region.storeU32(4, 0xdeadbeef);
  t.is(region.read(0, 8).toString('hex'), '0102efbeefbeadde');
  t.is(region.loadU32(4092), 0);
  t.is(
    codeOf(() => region.loadU16(1)),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => region.loadU32(2)),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => {
      region.storeU32(6, 1);
    }),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => region.loadU32(4094)),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => {
      region.storeU16(0, 0x10000);
    }),
    'OUT_OF_RANGE',
  );
  region.release();
});

test.serial('a sparse memfd of 64 GiB', (t) => {
  const region = memory(sixtyFourGiB);
  t.is(region.size, sixtyFourGiB);
  region.write(sixtyFourGiB - 3, Buffer.from('end'));
  t.is(region.read(sixtyFourGiB - 3, 3).toString(), 'end');
  t.is(
    codeOf(() => region.read(sixtyFourGiB - 2, 3)),
    'OUT_OF_RANGE',
  );
  region.release();
});

test.serial('map checks offset and length against the file', (t) => {
  const before = openFds();
  const fd = native.createMemfd('range', 3 * 4096);
  const attempt = (offset: number, length: number) => () =>
    native.map(fd, { offset, length, writable: true });
  for (const [offset, length] of [
    [0, 0],
    [0, 3 * 4096 + 1],
    [4096, 3 * 4096],
    [8192, 2 ** 53 - 1],
    [4 * 4096, 1],
    [2048, 4096],
    [0, -1],
    [Number.NaN, 4096],
    [0, 4096.5],
  ] as const) {
    t.is(codeOf(attempt(offset, length)), 'OUT_OF_RANGE', `${offset} ${length}`);
  }
  const region = native.map(fd, { offset: 4096, length: 5000, writable: true });
  t.is(region.fileOffset, 4096);
  t.is(region.size, 5000);
  t.is(
    codeOf(() => region.read(0, 5001)),
    'OUT_OF_RANGE',
  );
  const all = native.map(fd, { offset: 0, length: 3 * 4096, writable: false });
  region.write(4999, Buffer.from([0xaa]));
  t.is(all.read(4096 + 4999, 1)[0], 0xaa);
  region.release();
  all.release();
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('map refuses what is no file, and more rights than the fd has', (t) => {
  const eventfd = native.createEventFd();
  const map = (fd: number, writable: boolean) => () =>
    native.map(fd, { offset: 0, length: 4096, writable });
  t.is(codeOf(map(eventfd, true)), 'BAD_FD_TYPE');
  t.is(codeOf(map(99_999, true)), 'EBADF');
  t.is(codeOf(map(-1, true)), 'EBADF');
  const path = join(directory, 'read-only');
  writeFileSync(path, Buffer.alloc(4096, 1));
  const fd = native.openFile(path, { writable: false });
  t.is(codeOf(map(fd, true)), 'EACCES');
  const region = map(fd, false)();
  t.false(region.writable);
  t.is(region.read(0, 1)[0], 1);
  for (const write of [
    () => {
      region.write(0, Buffer.alloc(1));
    },
    () => {
      region.fill(0, 1, 0);
    },
    () => {
      region.storeU16(0, 0);
    },
    () => {
      region.copyFrom(region, 0, 1, 1);
    },
    // A store through a view of read-only memory would end the process.
    () => region.view(0, 16),
  ]) {
    t.is(codeOf(write), 'EACCES');
  }
  region.release();
  native.closeFd(fd);
  native.closeFd(eventfd);
});

test.serial('views share the memory and are detached by release', (t) => {
  const region = memory();
  const view = region.view(4096, 64);
  const same = region.view(4096, 64);
  view[3] = 7;
  t.is(same[3], 7);
  t.is(region.read(4099, 1)[0], 7);
  region.write(4100, Buffer.from([9]));
  t.is(view[4], 9);
  t.is(region.view(0, 0).length, 0);
  t.is(
    codeOf(() => memory(1 << 17).view(0, (1 << 16) + 1)),
    'OUT_OF_RANGE',
  );
  // A view can't be moved to another thread, which would not see the release. Node 20 copies it,
  // later versions throw.
  try {
    const copy = structuredClone(view, { transfer: [view.buffer as ArrayBuffer] });
    copy[3] = 99;
  } catch (error) {
    t.is((error as Error).name, 'DataCloneError');
  }
  t.is(view.length, 64);
  t.is(view[3], 7);
  region.release();
  t.is(view.length, 0);
  t.is(same.byteLength, 0);
});

test.serial('after release every access throws RELEASED', (t) => {
  const region = memory();
  const other = memory();
  t.false(region.released);
  region.release();
  region.release();
  t.true(region.released);
  t.is(region.size, 8192);
  t.false(region.poisoned);
  for (const access of [
    () => region.read(0, 1),
    () => region.read(0, 0),
    () => {
      region.readInto(0, Buffer.alloc(1));
    },
    () => {
      region.write(0, Buffer.alloc(1));
    },
    () => {
      region.fill(0, 1, 0);
    },
    () => {
      other.copyFrom(region, 0, 0, 1);
    },
    () => {
      region.copyFrom(other, 0, 0, 1);
    },
    () => region.view(0, 1),
    () => region.loadU16(0),
    () => {
      region.storeU32(0, 1);
    },
  ]) {
    t.is(codeOf(access), 'RELEASED');
  }
  other.release();
});

test.serial('collected memories are unmapped, but not under a view that is in use', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const name = 'collected-memory';
  const make = (): Uint8Array => {
    const fd = native.createMemfd(name, 4096);
    const view = native.map(fd, { offset: 0, length: 4096, writable: true }).view(0, 16);
    native.closeFd(fd);
    view[0] = 42;
    return view;
  };
  let view: Uint8Array | undefined = make();
  for (let i = 0; i < 5; i++) {
    collect();
    await turns();
  }
  t.is(mappings(name), 1);
  t.is(view[0], 42);
  view = undefined;
  await until(() => {
    collect();
    return mappings(name) === 0;
  });
  t.is(mappings(name), 0);
});
