import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE } from 'vfio-ts-bindings';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { native, type Native, type NativeSocket } from '../../src/native.js';
import type { Scope } from './scope.js';

/** An access object and the socket below it, to tell the one's cost from the other's. */
export interface OpenAccess {
  readonly access: VfioUserPciAccess;
  readonly socket: NativeSocket;
}

export async function openAccess(scope: Scope, path: string): Promise<OpenAccess> {
  let socket: NativeSocket | undefined;
  const spy = Object.create(native) as Native;
  spy.connect = (name) => (socket = native.connect(name));
  const access = await VfioUserPciAccess.connect(path, { native: spy });
  scope.defer(() => access.close());
  if (socket === undefined) throw new Error('the access object has no socket');
  return { access, socket };
}

export interface Place {
  readonly region: number;
  readonly offset: number;
  /** Bytes. */
  readonly count: number;
}

/** Far from the ids that the access object uses. */
const ID = 0x7777;
const PREFIX = 32;
const NO_REPLY = 0x10;

/** REGION_READ, or REGION_WRITE of zeros that asks for no reply, as on the wire. */
export function regionAccess(kind: 'read' | 'posted write', place: Place): Buffer {
  const posted = kind === 'posted write';
  const bytes = Buffer.alloc(PREFIX + (posted ? place.count : 0));
  bytes.writeUInt16LE(ID, 0);
  bytes.writeUInt16LE(posted ? VFIO_USER_REGION_WRITE : VFIO_USER_REGION_READ, 2);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.writeUInt32LE(posted ? NO_REPLY : 0, 8);
  bytes.writeBigUInt64LE(BigInt(place.offset), 16);
  bytes.writeUInt32LE(place.region, 24);
  bytes.writeUInt32LE(place.count, 28);
  return bytes;
}
