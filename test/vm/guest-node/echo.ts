/**
 * Runs inside the guest: the driver and the echo backend on a real PCI function. Each event is one
 * line of JSON on standard output; SIGUSR1 resets the function and brings it up again, SIGUSR2 says
 * how things are, SIGTERM ends it.
 *
 *     node echo.js DEVICE [--bind DRIVER] [--interrupts] [--intx]
 */
import { parseArgs } from 'node:util';
import { NetEcho } from '../../../src/backends/net-echo.js';
import { createLogger } from '../../../src/cli/logger.js';
import { openGuestDevice } from '../../../src/guest/find-device.js';
import { VhostUserBackend, VvuDriver, type InterruptHandle } from '../../../src/guest/index.js';
import type { PciAccess } from '../../../src/guest/pci-access.js';
import { decodeFrame, describeFrame } from '../../../src/vhost-user/index.js';
import { native, type NativeWatch } from '../../../src/native.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bind: { type: 'string' },
    interrupts: { type: 'boolean', default: false },
    intx: { type: 'boolean', default: false },
  },
});
const logger = createLogger('debug', true);

function say(event: string, details: object = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}

/** One life of the driver, from reset to reset. */
class Life {
  readonly driver: VvuDriver;
  readonly echo = new NetEcho(1);
  interrupts = 0;
  kicks = 0;
  private readonly watches: NativeWatch[] = [];
  private readonly timer: NodeJS.Timeout | undefined;
  private immediate: NodeJS.Immediate | undefined;

  constructor(access: PciAccess, interrupts: boolean) {
    this.driver = new VvuDriver(access, { logger, interrupts });
    new VhostUserBackend(this.driver, this.echo, { logger });
    this.driver.on('message', (bytes) => {
      say('message', { text: describeFrame(decodeFrame(bytes, 'LE'), 'LE') });
    });
    this.driver.on('connected', () => say('connected'));
    this.driver.on('disconnected', () => say('disconnected'));
    if (this.driver.interrupt === undefined) {
      this.pollOn();
    } else {
      this.watch(this.driver.interrupt, () => {
        this.interrupts++;
        this.driver.expectChange();
      });
      for (const vring of [0, 1]) this.watch(this.driver.kick(vring), () => this.kicks++);
      this.timer = setInterval(() => this.work(), 200);
    }
    this.driver.start();
    this.work();
  }

  report(): object {
    const { interrupts, kicks, echo } = this;
    return {
      interrupts,
      kicks,
      packets: echo.counters[0]?.packets,
      drops: echo.counters[0]?.drops,
    };
  }

  close(): void {
    clearInterval(this.timer);
    clearImmediate(this.immediate);
    for (const watch of this.watches) watch.close();
    this.driver.close();
  }

  private watch(handle: InterruptHandle | undefined, count: () => void): void {
    if (handle === undefined) throw new Error('no vector');
    const onSignal = (): void => {
      count();
      this.work();
    };
    this.watches.push(native.watchEventFd(handle.eventfd, onSignal));
  }

  /** All there is to do, and then the promise of an interrupt for what comes next. */
  private work(): void {
    while (this.driver.poll() + this.echo.poll() > 0 || this.wantsMore());
  }

  private wantsMore(): boolean {
    return this.driver.interrupt !== undefined && this.echo.enableKicks();
  }

  private pollOn(): void {
    this.driver.poll();
    this.echo.poll();
    this.immediate = setImmediate(() => this.pollOn());
  }
}

const access = openGuestDevice(positionals[0] ?? '', {
  logger,
  intx: values.intx,
  ...(values.bind === undefined ? {} : { bind: values.bind as 'vfio-pci' | 'uio_pci_generic' }),
});
let life = new Life(access, values.interrupts);
const { driver } = life;
const file = driver.window.file(0, 4096);
say('up', {
  access: access.constructor.name,
  vectors: access.vectorCount,
  vrings: driver.maxVhostQueues,
  uuid: driver.uuid.toString('hex'),
  window: driver.window.size,
  windowFile: file !== undefined,
});
process.on('SIGUSR1', () => {
  life.close();
  access.reset();
  life = new Life(access, values.interrupts);
  say('reset');
});
process.on('SIGUSR2', () => say('report', life.report()));
process.on('SIGTERM', () => {
  life.close();
  access.close();
  say('closed');
  process.exit(0);
});
