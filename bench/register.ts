import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { NativeTransport } from '../src/native-transport.js';
import { native } from '../src/native.js';
import type { Benchmark } from './benchmark.js';
import { openAccess, regionAccess } from './support/access.js';
import { Child, compileFloor } from './support/children.js';
import { startDevice } from './support/device.js';
import { compare, timeEach, type Contestant } from './support/latency.js';
import { ANSWERING_CPU, MEASURING_CPU, onCpu, pinSelf } from './support/pin.js';
import { Scope } from './support/scope.js';
import { printLatencies } from './support/table.js';

const TIMEOUT_MS = 5000;
/** Places of the split layout. */
const COMMON_BAR = 0;
const DOORBELL_BAR = 2;
const WINDOW_BAR = 4;
/** Doorbell 300: behind those that become ioeventfds, so a store to it is a message. */
const DOORBELL_OFFSET = 300 * 4;

/** Blocking C on both sides, and our client on C's server. */
async function floors(scope: Scope, cpu: number): Promise<[Contestant, Contestant]> {
  const folder = await scope.folder();
  const program = await compileFloor(folder, 'pingpong');
  const path = join(folder, 'socket');
  await Child.start(scope, program, ['serve', path], { cpu });
  const transport = new NativeTransport(native, native.connect(path));
  scope.defer(() => transport.close());
  transport.start({ data: () => undefined, closed: () => undefined });
  const bytes = regionAccess('read', { region: WINDOW_BAR, offset: 0, count: 4 });
  return [
    {
      name: 'floor: blocking C, C server',
      sample: async (count) => {
        const command = onCpu(MEASURING_CPU, program, ['ping', path, String(count)]);
        const { stdout } = await promisify(execFile)(...command);
        return stdout
          .trim()
          .split('\n')
          .map((line) => Number(line) / 1000);
      },
    },
    {
      name: 'NativeSocket.request, C server',
      sample: (count) => timeEach(count, () => transport.request(bytes, TIMEOUT_MS)),
    },
  ];
}

/** All contestants, with whoever answers on `cpu`. */
async function contestants(scope: Scope, cpu: number): Promise<Contestant[]> {
  const file = join(await scope.folder(), 'ram');
  const device = await startDevice(scope, `path=${file},size=1M`, cpu);
  const { access, socket } = await openAccess(scope, device.vfioUser);
  const bytes = regionAccess('read', { region: WINDOW_BAR, offset: 0, count: 4 });
  const two = Buffer.alloc(2);
  const four = Buffer.alloc(4);
  const each = (name: string, operation: () => void): Contestant => ({
    name,
    sample: (count) => timeEach(count, operation),
  });
  return [
    ...(await floors(scope, cpu)),
    each('NativeSocket.request, window read in C++', () => socket.request(bytes, TIMEOUT_MS)),
    each('barRead, window, in C++', () => access.barRead(WINDOW_BAR, 0, 4)),
    each('barWrite, doorbell, in C++', () => access.barWrite(DOORBELL_BAR, DOORBELL_OFFSET, two)),
    each('barRead, common config, in TypeScript', () => access.barRead(COMMON_BAR, 0, 4)),
    each('barWrite, common config, in TypeScript', () => access.barWrite(COMMON_BAR, 0, four)),
  ];
}

export const register: Benchmark = {
  name: 'register',
  what: 'register access over vfio-user: one blocking round trip, as of a virtual CPU',
  async run() {
    for (const [place, cpu] of [
      ['client and server on two CPUs: two wake-ups', ANSWERING_CPU],
      ['on one CPU: two context switches', MEASURING_CPU],
    ] as const) {
      await Scope.run(async (own) => {
        const all = await contestants(own, cpu);
        pinSelf(own);
        console.log(`  ${place}`);
        printLatencies(await compare(all, { rounds: 5, samples: 1000 }));
      });
    }
  },
};
