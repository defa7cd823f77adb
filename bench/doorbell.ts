import type { Benchmark } from './benchmark.js';
import { native } from '../src/native.js';
import { regionAccess } from './support/access.js';
import { attach, eventFd } from './support/attached.js';
import { Child, compileFloor } from './support/children.js';
import { compare, timeEach } from './support/latency.js';
import { pinSelf } from './support/pin.js';
import { untilSignalled } from './support/signal.js';
import { printLatencies } from './support/table.js';

/** As many doorbells as eventfds fit in a message are ioeventfds; this one is not among them. */
const MESSAGE_VRING = 200;
/** Where its register is in the split layout. */
const REGISTER = { region: 2, offset: MESSAGE_VRING * 4, count: 2 };

export const doorbell: Benchmark = {
  name: 'doorbell',
  what: "driver's doorbell store to the frontend's call eventfd",
  async run(scope) {
    const { driver, socket, notifier } = await attach(scope);
    const byEventFd = await notifier('SET_VRING_CALL', 0);
    const byMessage = await notifier('SET_VRING_CALL', MESSAGE_VRING);
    const [source, target] = [eventFd(scope), eventFd(scope)];
    const program = await compileFloor(await scope.folder(), 'relay');
    await Child.start(scope, program, [], { fds: [source, target] });
    const ringEventFd = driver.doorbell(0);
    const ringMessage = driver.doorbell(MESSAGE_VRING);
    const posted = regionAccess('posted write', REGISTER);
    pinSelf(scope);

    console.log("  until the frontend's call eventfd is signalled:");
    const signalled = [
      untilSignalled(
        'floor: a C process that polls, reads, writes',
        () => native.signalEventFd(source),
        target,
      ),
      untilSignalled('ioeventfd, relay thread', () => ringEventFd.ring(), byEventFd),
      untilSignalled('posted message, served in C++', () => socket.send(posted), byMessage),
    ];
    printLatencies(await compare(signalled, { rounds: 5, samples: 1000 }));

    console.log('  until the store is done, and the virtual CPU goes on:');
    const stored = [
      {
        name: 'floor: write of an eventfd without a waiter',
        sample: (count: number) => timeEach(count, () => native.signalEventFd(byMessage)),
      },
      {
        name: 'ioeventfd, with the wake-up of the relay thread',
        sample: (count: number) => timeEach(count, () => ringEventFd.ring()),
      },
      {
        name: 'posted message',
        sample: (count: number) => timeEach(count, () => socket.send(posted)),
      },
      {
        name: 'message with a reply, served in C++',
        sample: (count: number) => timeEach(count, () => ringMessage.ring()),
      },
    ];
    printLatencies(await compare(stored, { rounds: 5, samples: 1000 }));
  },
};
