import { deferred, within, type Deferred } from './deferred.js';
import type { LineSocket } from './line-socket.js';

interface QmpMessage {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
}

/** QEMU's machine protocol: commands, and the names of the events so far. */
export class Qmp {
  readonly events: string[] = [];
  readonly #port: LineSocket;
  readonly #outstanding = new Map<number, Deferred<unknown>>();
  readonly #greeting = deferred<undefined>();
  #id = 0;

  constructor(port: LineSocket) {
    this.#port = port;
    port.onLine = (line) => this.#receive(JSON.parse(line) as QmpMessage);
  }

  /** Waits for QEMU's greeting and leaves negotiation mode. */
  async negotiate(timeout: number): Promise<void> {
    await within(this.#greeting.promise, timeout, "QEMU's greeting");
    await this.execute('qmp_capabilities');
  }

  /** Runs a command; rejects with QEMU's description of an error. */
  async execute(command: string, args: object = {}, timeout = 10_000): Promise<unknown> {
    const id = ++this.#id;
    const answer = deferred<unknown>();
    this.#outstanding.set(id, answer);
    this.#port.send(JSON.stringify({ execute: command, arguments: args, id }));
    try {
      return await within(answer.promise, timeout, `QMP command ${command}`);
    } finally {
      this.#outstanding.delete(id);
    }
  }

  /** QEMU is gone. */
  fail(error: Error): void {
    this.#greeting.reject(error);
    for (const answer of this.#outstanding.values()) answer.reject(error);
  }

  #receive(message: QmpMessage): void {
    if (message.QMP !== undefined) this.#greeting.resolve(undefined);
    if (message.event !== undefined) this.events.push(message.event);
    if (message.id === undefined) return;
    const answer = this.#outstanding.get(message.id);
    if (message.error !== undefined) answer?.reject(new Error(message.error.desc));
    else answer?.resolve(message.return);
  }
}
