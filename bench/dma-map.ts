import { VFIO_PCI_MSIX_IRQ_INDEX, VfioUserClient } from 'vfio-ts-bindings';
import { NativeTransport } from '../src/native-transport.js';
import { native } from '../src/native.js';
import type { Benchmark } from './benchmark.js';
import { startDevice } from './support/device.js';
import { pinSelf } from './support/pin.js';
import { median, quantile } from './support/stats.js';
import { digits, printTable } from './support/table.js';

const MAPS = 20_000;
const EDGE = 1000;
const PAGE = 4096;
/** One request without any work is timed among so many. */
const FLOOR_EVERY = 10;
const BASE = 2 ** 32;

/** Microseconds of each operation, and of each request without work between them. */
interface Series {
  readonly times: Float64Array;
  readonly idle: Float64Array;
}

/** 0..MAPS-1 in an order that a vIOMMU's allocator might choose, the same in every run. */
function shuffled(): number[] {
  const order = Array.from({ length: MAPS }, (_, index) => index);
  let seed = 1;
  for (let i = MAPS - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    const [a, b] = [order[i] ?? 0, order[j] ?? 0];
    order[i] = b;
    order[j] = a;
  }
  return order;
}

async function timed(operation: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await operation();
  return (performance.now() - start) * 1000;
}

/** Maps or unmaps every page in order. */
async function series(
  order: readonly number[],
  operation: (page: number) => Promise<void>,
  floor: () => Promise<unknown>,
): Promise<Series> {
  const times = new Float64Array(order.length);
  const idle = new Float64Array(order.length / FLOOR_EVERY);
  for (const [index, page] of order.entries()) {
    if (index % FLOOR_EVERY === 0) idle[index / FLOOR_EVERY] = await timed(floor);
    times[index] = await timed(() => operation(page));
  }
  return { times, idle };
}

/** How many requests without work one operation takes, by medians. */
function ratio({ times, idle }: Series, from?: number, to?: number): number {
  const part = (at: number | undefined): number | undefined =>
    at === undefined ? undefined : at / FLOOR_EVERY;
  return median(times.subarray(from, to)) / median(idle.subarray(part(from), part(to)));
}

function row(name: string, one: Series): string[] {
  const growth = ratio(one, MAPS - EDGE, MAPS) / ratio(one, 0, EDGE);
  const { times } = one;
  return [name, ...[median(times), quantile(times, 0.99), ratio(one), growth].map(digits)];
}

export const dmaMap: Benchmark = {
  name: 'dma-map',
  what: `${MAPS} DMA maps of one page each over one file, as behind a vIOMMU`,
  async run(scope) {
    const device = await startDevice(scope, 'size=64M');
    const fd = native.createMemfd('vvu-bench', MAPS * PAGE);
    scope.defer(() => native.closeFd(fd));
    const client = new VfioUserClient(new NativeTransport(native, native.connect(device.vfioUser)));
    scope.defer(() => client.close());
    await client.connect();
    pinSelf(scope);

    const map = (page: number): Promise<void> =>
      client.dmaMap({ address: BASE + page * PAGE, size: PAGE, fd, fileOffset: page * PAGE });
    const unmap = (page: number): Promise<void> => client.dmaUnmap(BASE + page * PAGE, PAGE);
    const idle = (): Promise<unknown> => client.irqInfo(VFIO_PCI_MSIX_IRQ_INDEX);
    const ascending = Array.from({ length: MAPS }, (_, index) => index);
    const random = shuffled();
    const orders = [
      { pages: ascending, names: ['map, ascending', 'unmap, descending'] },
      { pages: random, names: ['map, random order', 'unmap, in reverse'] },
    ] as const;
    const both = async (order: readonly number[]): Promise<[Series, Series]> => [
      await series(order, map, idle),
      await series([...order].reverse(), unmap, idle),
    ];
    await both(random.slice(0, MAPS / 5));
    const rows: string[][] = [];
    for (const { pages, names } of orders) {
      const [mapped, unmapped] = await both(pages);
      rows.push(row(names[0], mapped), row(names[1], unmapped));
    }
    printTable(
      ['', 'median us', 'p99 us', 'to a request without work', `last ${EDGE} to first ${EDGE}`],
      rows,
    );
  },
};
