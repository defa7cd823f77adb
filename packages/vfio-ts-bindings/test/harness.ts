import {
  createTransportPair,
  VfioUserClient,
  VfioUserServer,
  type FakeFds,
  type TransportPairOptions,
  type VfioUserClientOptions,
  type VfioUserServerOptions,
} from '../src/index.js';
import { ScriptedTransport } from './scripted-transport.js';
import { TestDevice } from './test-device.js';
import { qemuVersion } from './vectors.js';

/** A server whose client is the test's bytes. */
export interface ScriptedServer {
  readonly transport: ScriptedTransport;
  readonly device: TestDevice;
  readonly server: VfioUserServer;
  readonly fds: FakeFds;
  readonly warnings: string[];
}

export function scriptedServer(
  options: Partial<VfioUserServerOptions> = {},
  negotiate = true,
): ScriptedServer {
  const transport = new ScriptedTransport();
  const { fds } = transport;
  const device = new TestDevice(fds);
  const warnings: string[] = [];
  const server = new VfioUserServer(transport, device, {
    signalEventFd: (fd) => fds.signal(fd),
    log: { warn: (text) => warnings.push(text) },
    ...options,
  });
  server.start();
  if (negotiate) {
    transport.message(qemuVersion.request);
    transport.sent.length = 0;
  }
  return { transport, device, server, fds, warnings };
}

/** fds that are left when connection and device are gone: 0 unless something leaked. */
export function leaked({ transport, device, fds }: ScriptedServer): number {
  if (!transport.closed) transport.end();
  device.dispose();
  return fds.openCount;
}

/** A client and a server of this package on an in-memory pair. */
export interface Connected {
  readonly client: VfioUserClient;
  readonly server: VfioUserServer;
  readonly device: TestDevice;
  readonly fds: FakeFds;
  /** Ends both sides. @returns how many fds are still open */
  readonly finish: () => number;
}

export async function connected(
  clientOptions: VfioUserClientOptions = {},
  serverOptions: Partial<VfioUserServerOptions> = {},
  pairOptions: TransportPairOptions = {},
): Promise<Connected> {
  const pair = createTransportPair(pairOptions);
  const { fds } = pair;
  const device = new TestDevice(fds);
  const server = new VfioUserServer(pair.server, device, {
    signalEventFd: (fd) => fds.signal(fd),
    ...serverOptions,
  });
  server.start();
  const client = new VfioUserClient(pair.client, clientOptions);
  await client.connect();
  const finish = (): number => {
    client.close();
    server.close();
    device.dispose();
    return fds.openCount;
  };
  return { client, server, device, fds, finish };
}
