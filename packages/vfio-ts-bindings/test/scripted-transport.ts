import { FakeFds, type Transport, type TransportHandlers } from '../src/index.js';
import { concat } from './hex.js';

/** A transport whose other end is the test: it feeds chunks and sees what is sent. */
export class ScriptedTransport implements Transport {
  readonly fds = new FakeFds();
  readonly sent: { readonly bytes: Uint8Array; readonly fdLabels: readonly string[] }[] = [];
  handlers: TransportHandlers | undefined;
  paused = false;
  closed = false;
  /** What `send` returns. */
  room = true;

  start(handlers: TransportHandlers): void {
    this.handlers = handlers;
  }

  /** A chunk of the stream; the fds pass to the receiver. */
  feed(bytes: Uint8Array, fds: number[] = []): void {
    this.handlers?.data(bytes, fds);
  }

  /** A whole message with new fds of these labels. */
  message(bytes: Uint8Array, labels: readonly string[] = []): void {
    this.feed(
      bytes,
      labels.map((label) => this.fds.open(label)),
    );
  }

  /** The connection ends from the other side. */
  end(reason = 'EOF'): void {
    this.closed = true;
    this.handlers?.closed(reason, 'test');
  }

  /** Everything sent since the last call, as one array. */
  take(): Uint8Array {
    return concat(...this.sent.splice(0).map(({ bytes }) => bytes));
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    const fdLabels = fds.map((fd) => this.fds.label(fd) ?? `bad fd ${fd}`);
    this.sent.push({ bytes: bytes.slice(), fdLabels });
    return this.room;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  closeFd(fd: number): void {
    this.fds.close(fd);
  }

  close(): void {
    this.closed = true;
  }
}
