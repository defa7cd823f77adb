import { connect, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';

/** A person's keyboard, `process.stdin` for one; without `setRawMode` lines arrive, not keys. */
export type Keyboard = Readable & { setRawMode?: (raw: boolean) => unknown };

/** What the menu needs of a `LabVm`. */
export interface MenuVm {
  readonly vm: { readonly name: string | undefined; readonly console: string };
  readonly hints: readonly string[];
}

export interface MenuActions {
  /** Another round of what the lab is for. */
  readonly show: () => Promise<void>;
  /** The person wants to leave. */
  readonly quit: () => void;
}

const CTRL_C = 0x03;
/** Ctrl-], as telnet has it. */
const LEAVE = 0x1d;

/**
 * Keys of a terminal on a lab: digits attach it to the console of a VM, Ctrl-] detaches it.
 *
 * While it is attached what the lab says is held back, or it would be in the middle of the guest's
 * lines.
 */
export class TerminalMenu {
  #socket: Socket | undefined;
  #held: string[] = [];
  #busy = false;
  readonly #onData = (bytes: Buffer): void => this.#keys(bytes);

  constructor(
    private readonly keyboard: Keyboard,
    private readonly screen: Writable,
    private readonly vms: readonly MenuVm[],
    private readonly actions: MenuActions,
  ) {
    keyboard.setRawMode?.(true);
    keyboard.on('data', this.#onData);
  }

  /** One line that says which keys there are. */
  get help(): string {
    const consoles = this.vms.map(({ vm }, index) => `${index + 1} ${vm.name} console`);
    return `keys: ${consoles.join(', ')}, s show again, q quit`;
  }

  /** Prints a line, now or once no console is attached. */
  say(line: string): void {
    if (this.#socket !== undefined) this.#held.push(line);
    else this.#print(line);
  }

  /** Gives the terminal back. */
  close(): void {
    this.#detach();
    this.keyboard.off('data', this.#onData);
    this.keyboard.setRawMode?.(false);
    this.keyboard.pause();
  }

  #keys(bytes: Buffer): void {
    if (this.#socket === undefined) {
      for (const byte of bytes) this.#key(byte);
      return;
    }
    const leave = bytes.indexOf(LEAVE);
    if (leave < 0) {
      this.#socket.write(bytes);
    } else {
      this.#socket.write(bytes.subarray(0, leave));
      this.#detach();
      this.say(this.help);
    }
  }

  #key(byte: number): void {
    const key = String.fromCharCode(byte);
    const found = this.vms[Number(key) - 1];
    if (found !== undefined) this.#attach(found);
    else if (key === 's') this.#show();
    else if (key === 'q' || byte === CTRL_C) this.actions.quit();
    else this.say(this.help);
  }

  #show(): void {
    if (this.#busy) return;
    this.#busy = true;
    const done = this.actions.show().catch((error: unknown) => this.say(String(error)));
    void done.finally(() => (this.#busy = false));
  }

  #attach({ vm, hints }: MenuVm): void {
    this.say(`-- console of ${vm.name}; Ctrl-] leaves it. For example:`);
    for (const hint of hints) this.say(`--   ${hint}`);
    const socket = connect(vm.console);
    this.#socket = socket;
    socket.on('connect', () => socket.write('\n'));
    socket.on('data', (bytes: Buffer) => this.screen.write(bytes));
    // An error is followed by "close".
    socket.on('error', (error) => this.#held.push(`-- ${error.message}`));
    socket.on('close', () => {
      if (this.#socket === socket) this.#detach();
    });
  }

  #detach(): void {
    if (this.#socket === undefined) return;
    this.#socket.destroy();
    this.#socket = undefined;
    this.#print('');
    this.say('-- left');
    for (const line of this.#held.splice(0)) this.say(line);
  }

  /** A terminal in raw mode does not go back to the start of the line by itself. */
  #print(line: string): void {
    this.screen.write(`${line.replaceAll('\n', '\r\n')}\r\n`);
  }
}
