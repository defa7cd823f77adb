import type { NativeSocket } from '../../native.js';

/**
 * What comes from one socket of the backend, on its way to the frontend. While the driver has no
 * buffer the socket is not read, so no more is held than what was read before.
 */
export class Outbox {
  private held: Buffer[] = [];

  constructor(
    private readonly socket: Pick<NativeSocket, 'pause' | 'resume'>,
    /** False when there is no room: `flush` tries again. */
    private readonly toFrontend: (message: Buffer) => boolean,
  ) {}

  /** Whether something waits for `flush`. */
  get waiting(): boolean {
    return this.held.length > 0;
  }

  send(message: Buffer): void {
    if (this.held.length === 0 && this.toFrontend(message)) return;
    if (this.held.length === 0) this.socket.pause();
    this.held.push(message);
  }

  flush(): void {
    if (this.held.length === 0) return;
    while (this.held[0] !== undefined && this.toFrontend(this.held[0])) this.held.shift();
    if (this.held.length === 0) this.socket.resume();
  }

  clear(): void {
    this.held = [];
  }
}
