import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { errorCode } from '../errors.js';

/** How often and how long a non-blocking terminal or pipe that is full is waited for. */
const ATTEMPTS = 10;
const PAUSE_MS = 5;

/**
 * A stream of log lines to a file descriptor, written at once. A line that cannot be written (the
 * disk is full, the reader is gone) is lost: the machines behind the device are worth more.
 */
export class LogOutput extends Writable {
  constructor(private readonly fd: number) {
    super({ decodeStrings: true });
  }

  override _write(line: Buffer, _encoding: string, done: () => void): void {
    let rest = line;
    for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt++) {
      try {
        rest = rest.subarray(writeSync(this.fd, rest));
      } catch (error) {
        if (errorCode(error) !== 'EAGAIN') break;
        pause(PAUSE_MS);
      }
    }
    done();
  }
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
