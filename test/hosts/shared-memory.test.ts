import { readdirSync } from 'node:fs';
import test from 'ava';
import { DmaMemory } from '../../src/hosts/vfio-user/dma.js';
import { native } from '../../src/native.js';

const PAGE = 4096;
const BASE = 0x100000;

const openFds = (): number => readdirSync('/proc/self/fd').length;

interface Piece {
  /** Page of the guest's memory, and of the file. */
  readonly page: number;
  readonly filePage: number;
  readonly writable?: boolean;
}

/** Memory as a client maps it behind a vIOMMU: piece by piece, each with an fd of its own. */
function mapped(file: number, share: boolean, pieces: readonly Piece[]): DmaMemory {
  const memory = new DmaMemory(native, () => undefined, share);
  for (const { page, filePage, writable = true } of pieces) {
    memory.map({
      ...{ address: BASE + page * PAGE, size: PAGE, fd: native.dupFd(file) },
      ...{ fileOffset: filePage * PAGE, readable: true, writable },
    });
  }
  return memory;
}

test.serial('pieces that follow each other in one file are shared as one', (t) => {
  const file = native.createMemfd('ram', 8 * PAGE);
  t.teardown(() => native.closeFd(file));
  const before = openFds();
  const memory = mapped(file, true, [
    { page: 0, filePage: 3 },
    { page: 1, filePage: 4 },
    { page: 2, filePage: 6 },
    { page: 4, filePage: 5, writable: false },
  ]);
  t.is(openFds(), before + 2, 'one fd per kind of mapping, not per piece');
  const share = (page: number, pages: number, writable = true) =>
    memory.shared?.share(BigInt(BASE + page * PAGE), BigInt(pages * PAGE), writable);

  const found = share(0, 2);
  t.is(found?.fileOffset, BigInt(3 * PAGE));
  t.is(native.fdInfo(found?.fd ?? -1).ino, native.fdInfo(file).ino);
  native.closeFd(found?.fd ?? -1);
  const readOnly = share(4, 1, false);
  t.is(readOnly?.fileOffset, BigInt(5 * PAGE));
  native.closeFd(readOnly?.fd ?? -1);

  const refused = { code: 'BAD_SHMEM' };
  t.throws(() => share(1, 2), { ...refused, message: /0x102000 is in another place/ });
  t.throws(() => share(2, 2), { ...refused, message: /0x103000 is not mapped/ });
  t.throws(() => share(4, 1), { ...refused, message: /0x104000 is mapped but not writable/ });
  t.throws(() => share(0, 0), refused);
  memory.unmap(BASE);
  t.throws(() => share(0, 1), refused);
  memory.clear();
  t.is(openFds(), before);
});

test.serial('without the option no fd is kept', (t) => {
  const file = native.createMemfd('ram', PAGE);
  t.teardown(() => native.closeFd(file));
  const before = openFds();
  const memory = mapped(file, false, [{ page: 0, filePage: 0 }]);
  t.is(openFds(), before);
  t.is(memory.shared, undefined);
  memory.clear();
});
