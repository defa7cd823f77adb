import type { MessageDescriptor } from './descriptor.js';

/** A reply that the backend owes. */
export interface ExpectedReply {
  readonly descriptor: MessageDescriptor;
  /** True for the message's own reply, false for an acknowledgement (u64). */
  readonly own: boolean;
}

type Entry = { readonly expected: ExpectedReply } | { readonly answer: Buffer };

/**
 * Replies that the frontend waits for, oldest first. Vhost-user replies come in the order of their
 * requests, so an answer of whoever stands between (a refusal) waits here behind the backend's.
 */
export class OutstandingReplies {
  #queue: Entry[] = [];
  /** The last request of which nobody knows whether it has a reply. */
  #possible: number | undefined;

  constructor(private readonly limit: number) {}

  /** No further request may be taken until a reply has come. */
  get full(): boolean {
    return this.#queue.length >= this.limit;
  }

  /** The reply that has to come next, if the backend owes one. */
  get next(): ExpectedReply | undefined {
    const head = this.#queue[0];
    return head !== undefined && 'expected' in head ? head.expected : undefined;
  }

  expect(expected: ExpectedReply): void {
    this.#queue.push({ expected });
  }

  /** The request with this number may be answered, or not; nothing waits for it. */
  mayExpect(request: number): void {
    this.#possible = request;
  }

  /** Whether a reply, which is not {@link next}, may answer the request of {@link mayExpect}. */
  settlePossible(request: number): boolean {
    const possible = this.#possible === request;
    if (possible) {
      this.#possible = undefined;
    }
    return possible;
  }

  /** An answer that is there already; {@link takeReady} gives it out in its turn. */
  answer(answer: Buffer): void {
    this.#queue.push({ answer });
  }

  /** The reply named by {@link next} has come. */
  settle(): void {
    this.#queue.shift();
  }

  /** The answers whose turn it is. */
  takeReady(): Buffer[] {
    const ready: Buffer[] = [];
    for (let head = this.#queue[0]; head && 'answer' in head; head = this.#queue[0]) {
      ready.push(head.answer);
      this.#queue.shift();
    }
    return ready;
  }

  /** Nobody will send the replies that are owed: each becomes an answer. */
  abandon(answer: (expected: ExpectedReply) => Buffer): void {
    this.#queue = this.#queue.map((entry) =>
      'expected' in entry ? { answer: answer(entry.expected) } : entry,
    );
  }

  clear(): void {
    this.#queue = [];
    this.#possible = undefined;
  }
}
