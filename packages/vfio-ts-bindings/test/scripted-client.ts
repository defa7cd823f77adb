import { VfioUserClient, type VfioUserClientOptions } from '../src/index.js';
import { ascii, concat, hex } from './hex.js';
import { ScriptedTransport } from './scripted-transport.js';

/** Header 16, version 4, JSON and NUL; id 1, the first that a client uses. */
export function versionReply(data: string, major = '0000', minor = '0000'): Uint8Array {
  const bytes = concat(hex(`0100 0100 00000000 01000000 00000000 ${major} ${minor}`), ascii(data));
  Buffer.from(bytes.buffer).writeUInt32LE(bytes.length, 4);
  return bytes;
}

export const FULL =
  '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"write_multiple":true}}\0';

export async function scriptedClient(
  options: VfioUserClientOptions = {},
): Promise<{ client: VfioUserClient; transport: ScriptedTransport }> {
  const transport = new ScriptedTransport();
  const client = new VfioUserClient(transport, { requestTimeoutMs: 50, ...options });
  const connecting = client.connect();
  transport.feed(versionReply(FULL));
  await connecting;
  transport.sent.length = 0;
  return { client, transport };
}
