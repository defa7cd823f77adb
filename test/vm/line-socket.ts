import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/**
 * A Unix socket that QEMU connects to when it starts, and that carries lines.
 *
 * We listen and QEMU connects, not the other way round: then the connection stands before the
 * guest's first instruction, and nothing that the guest writes early is lost.
 */
export class LineSocket {
  readonly #server: Server;
  #socket: Socket | undefined;
  /** Called with each line, without its end. */
  onLine: (line: string) => void = () => undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(path: string): Promise<LineSocket> {
    const server = createServer();
    const lines = new LineSocket(server);
    server.on('connection', (socket) => lines.#accept(socket));
    server.listen(path);
    await once(server, 'listening');
    return lines;
  }

  send(line: string): void {
    this.#socket?.write(`${line}\n`);
  }

  close(): void {
    this.#socket?.destroy();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    this.#socket?.destroy();
    this.#socket = socket;
    // QEMU's end is reported by its process; a reset here says nothing more.
    socket.on('error', () => undefined);
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.onLine(line.replace(/\r$/, ''));
    });
  }
}
