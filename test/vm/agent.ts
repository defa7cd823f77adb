import { deferred, within, type Deferred } from './deferred.js';
import type { LineSocket } from './line-socket.js';

interface Request {
  readonly sequence: number;
  readonly lines: string[];
  readonly answer: Deferred<string[]>;
}

/** The probe (test/vm/guest/probe.h) answered with an error. */
export class ProbeError extends Error {
  override readonly name = 'ProbeError';
}

/**
 * The host's end of the probe's serial port: one request at a time, in order.
 *
 * An answer names its request, so what still arrives for one that timed out is dropped.
 */
export class Agent {
  readonly #port: LineSocket;
  #sequence = 0;
  #current: Request | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #ready = deferred<undefined>();

  constructor(port: LineSocket) {
    this.#port = port;
    port.onLine = (line) => this.#receive(line);
  }

  /** Resolves when the probe next says that it is ready, or has said so since `expectBoot`. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** The guest is about to start over. */
  expectBoot(): void {
    this.#ready = deferred<undefined>();
  }

  /** QEMU is gone: nothing outstanding will be answered. */
  fail(error: Error): void {
    this.#ready.reject(error);
    this.#current?.answer.reject(error);
  }

  /** Runs one command and resolves with the lines it said. */
  run(command: string, timeout: number): Promise<string[]> {
    const result = this.#turn.then(() => this.#exchange(command, timeout));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #exchange(command: string, timeout: number): Promise<string[]> {
    const sequence = ++this.#sequence;
    const request = { sequence, lines: [], answer: deferred<string[]>() };
    this.#current = request;
    this.#port.send(`${sequence} ${command}`);
    try {
      return await within(request.answer.promise, timeout, `guest command "${command}"`);
    } finally {
      this.#current = undefined;
    }
  }

  #receive(line: string): void {
    if (line === 'agent ready') {
      this.#ready.resolve(undefined);
      return;
    }
    const request = this.#current;
    if (request === undefined) return;
    if (line.startsWith('= ')) {
      request.lines.push(line.slice(2));
      return;
    }
    const [, outcome, sequence, reason] = /^(ok|error) (\d+) ?(.*)$/.exec(line) ?? [];
    if (outcome === undefined) return;
    if (Number(sequence) !== request.sequence) request.lines.length = 0;
    else if (outcome === 'ok') request.answer.resolve(request.lines);
    else request.answer.reject(new ProbeError(reason));
  }
}
