import { readlinkSync } from 'node:fs';
import { native, type NativeListener, type NativeSocket } from '../../src/native.js';
import {
  decodeFrame,
  describeFrame,
  nativeOrder,
  vhostUserFraming,
} from '../../src/vhost-user/index.js';

/** One message of a transcript, as files of test/transcripts have it. */
export interface RecordedMessage {
  readonly dir: 'frontend' | 'backend';
  /** The whole message in the machine's byte order. */
  readonly hex: string;
  /** Number of fds. */
  readonly fds: number;
  /** What each fd is: `eventfd`, `memfd`, ... */
  readonly kinds: readonly string[];
  /** The fields, for readers. */
  readonly text: string;
}

function kindOf(fd: number): string {
  const target = readlinkSync(`/proc/self/fd/${fd}`);
  return /eventfd|memfd|socket|pipe/.exec(target)?.[0] ?? 'file';
}

/** A relay between a frontend and a device that takes note of every message. */
export class Recorder {
  readonly messages: RecordedMessage[] = [];
  readonly #listener: NativeListener;
  readonly #open: NativeSocket[] = [];

  constructor(
    /** Where the frontend connects. */
    readonly path: string,
    device: string,
  ) {
    this.#listener = native.listen(path, { mode: 0o600 }, (frontend) => {
      const backend = native.connect(device);
      this.#open.push(frontend, backend);
      this.#relay('frontend', frontend, backend);
      this.#relay('backend', backend, frontend);
    });
  }

  close(): void {
    this.#listener.close();
    for (const socket of this.#open) socket.close();
  }

  #relay(dir: RecordedMessage['dir'], from: NativeSocket, to: NativeSocket): void {
    from.start(vhostUserFraming, {
      message: (bytes, fds) => {
        const text = describeFrame(decodeFrame(bytes, nativeOrder), nativeOrder);
        const kinds = fds.map(kindOf);
        const hex = Buffer.from(bytes).toString('hex');
        this.messages.push({ dir, hex, fds: fds.length, kinds, text });
        to.send(bytes, fds);
        for (const fd of fds) native.closeFd(fd);
      },
      closed: () => to.close(),
    });
  }
}
