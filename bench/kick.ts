import type { Benchmark } from './benchmark.js';
import { native } from '../src/native.js';
import { regionAccess } from './support/access.js';
import { attach, eventFd } from './support/attached.js';
import { Child, compileFloor } from './support/children.js';
import { compare } from './support/latency.js';
import { pinSelf } from './support/pin.js';
import { untilSignalled } from './support/signal.js';
import { printLatencies } from './support/table.js';

/** Work for the device's JavaScript, which is done with it before the next kick. */
const WRITES = 5;
/** device_feature_select in the split layout. */
const REGISTER = { region: 0, offset: 0, count: 4 };

export const kick: Benchmark = {
  name: 'kick',
  what: "frontend's kick eventfd to the driver's MSI-X eventfd, across processes",
  async run(scope) {
    const { driver, socket, notifier } = await attach(scope);
    const kickFd = await notifier('SET_VRING_KICK', 0);
    const interrupt = driver.kick(0);
    if (interrupt === undefined) throw new Error('the device has no vector for vring 0');

    const [inC, outOfC, inJs, outOfJs, plain] = [1, 2, 3, 4, 5].map(() => eventFd(scope)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const program = await compileFloor(await scope.folder(), 'relay');
    await Child.start(scope, program, [], { fds: [inC, outOfC] });
    await Child.worker(scope, 'relay', [], { fds: [inJs, outOfJs] });
    pinSelf(scope);
    const signal = (fd: number) => () => native.signalEventFd(fd);
    const writes = Array.from({ length: WRITES }, () => regionAccess('posted write', REGISTER));
    const contestants = [
      untilSignalled('floor: a C process that polls, reads, writes', signal(inC), outOfC),
      untilSignalled('the device: relay thread', signal(kickFd), interrupt.eventfd),
      untilSignalled(
        `the device, with ${WRITES} register writes before the kick`,
        signal(kickFd),
        interrupt.eventfd,
        () => writes.forEach((write) => socket.send(write)),
      ),
      untilSignalled('a relay in JavaScript (libuv)', signal(inJs), outOfJs),
      untilSignalled('write and read of one eventfd, no relay', signal(plain), plain),
    ];
    printLatencies(await compare(contestants, { rounds: 5, samples: 1000 }));
  },
};
