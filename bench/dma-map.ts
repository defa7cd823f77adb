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
const ROUNDS = 1;
const BASE = 2 ** 32;

type Times = Float64Array;

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

/** Maps or unmaps every page in order, and gives the microseconds of each and of the floor. */
async function series(
  order: readonly number[],
  operation: (page: number) => Promise<void>,
  floor: () => Promise<unknown>,
): Promise<{ readonly times: Times; readonly floor: number }> {
  const times = new Float64Array(order.length);
  const idle: number[] = [];
  for (const [index, page] of order.entries()) {
    if (index % FLOOR_EVERY === 0) idle.push(await timed(floor));
    times[index] = await timed(() => operation(page));
  }
  return { times, floor: median(idle) };
}

function row(name: string, runs: readonly { times: Times; floor: number }[]): string[] {
  const over = (value: (run: { times: Times; floor: number }) => number): string =>
    digits(median(runs.map(value)));
  return [
    name,
    over(({ times }) => median(times)),
    over(({ times }) => quantile(times, 0.99)),
    over(({ times, floor }) => median(times) / floor),
    over(({ times }) => median(times.subarray(-EDGE)) / median(times.subarray(0, EDGE))),
  ];
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
      { names: ['map, ascending', 'unmap, descending'], pages: ascending },
      { names: ['map, random order', 'unmap, in reverse'], pages: random },
    ].map((order) => ({
      ...order,
      maps: [] as { times: Times; floor: number }[],
      unmaps: [] as { times: Times; floor: number }[],
    }));
    for (let round = -1; round < ROUNDS; round++) {
      for (const { pages, maps, unmaps } of orders) {
        // The warm-up needs less.
        const order = round < 0 ? pages.slice(0, MAPS / 5) : pages;
        const mapped = await series(order, map, idle);
        const unmapped = await series([...order].reverse(), unmap, idle);
        if (round < 0) continue;
        maps.push(mapped);
        unmaps.push(unmapped);
      }
    }
    printTable(
      ['', 'median us', 'p99 us', 'to a request without work', `last ${EDGE} to first ${EDGE}`],
      orders.flatMap(({ names: [map = '', unmap = ''], maps, unmaps }) => [
        row(map, maps),
        row(unmap, unmaps),
      ]),
    );
  },
};
