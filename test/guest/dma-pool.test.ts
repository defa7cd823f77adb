import test from 'ava';
import fc from 'fast-check';
import { DmaPool } from '../../src/guest/dma-pool.js';
import type { DmaBuffer } from '../../src/guest/pci-access.js';
import { FakeMemory } from '../virtio/fake-memory.js';

const PAGE = 4096;

test('allocations are whole pages, and come back', (t) => {
  const pool = new DmaPool(new FakeMemory(0), 0x10000, 4 * PAGE);
  const a = pool.allocate(1);
  const b = pool.allocate(PAGE + 1);
  t.is(a.iova, 0x10000);
  t.is(a.size, 1);
  t.is(b.iova, 0x11000);
  t.is(pool.free, PAGE);
  t.throws(() => pool.allocate(PAGE + 1), { code: 'DMA_POOL' });
  t.throws(() => pool.allocate(0), { code: 'DMA_POOL' });
  a.free();
  a.free();
  t.is(pool.free, 2 * PAGE);
  t.throws(() => pool.allocate(2 * PAGE), { code: 'DMA_POOL' }, 'two gaps of one page');
  b.free();
  t.is(pool.allocate(4 * PAGE).iova, 0x10000);
});

test('no two buffers overlap, and nothing is lost, in any order', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ pages: fc.integer({ min: 1, max: 5 }), release: fc.nat({ max: 9 }) }), {
        maxLength: 60,
      }),
      (steps) => {
        const pool = new DmaPool(new FakeMemory(0), 0, 32 * PAGE);
        const held: DmaBuffer[] = [];
        for (const { pages, release } of steps) {
          try {
            held.push(pool.allocate(pages * PAGE));
          } catch {
            held.splice(release % Math.max(1, held.length), 1)[0]?.free();
          }
        }
        held.sort((a, b) => a.iova - b.iova);
        held.reduce((end, { iova, size }) => {
          t.true(iova >= end);
          return iova + size;
        }, 0);
        t.is(pool.free, 32 * PAGE - held.reduce((sum, { size }) => sum + size, 0));
        for (const buffer of held) buffer.free();
        return pool.allocate(32 * PAGE).iova === 0;
      },
    ),
  );
});
