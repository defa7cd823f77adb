/** Requests of the frontend with what a local backend needs in them: fds. */
import { VvuError } from '../../errors.js';
import {
  hex,
  type FrontendRequest,
  type LogBase,
  type MemoryRegion,
  type MessageDescriptor,
  type VringFd,
} from '../../vhost-user/index.js';
import type { WindowAccess, WindowFile } from '../pci-access.js';
import type { InflightExchange } from './inflight.js';
import type { DoorbellName, Notifiers } from './notifiers.js';

/** What goes to the backend. The fds are not the receiver's: sending duplicates them. */
export interface AdaptedRequest {
  readonly value: unknown;
  readonly fds: readonly number[];
}

export interface AdaptPorts {
  readonly window: Pick<WindowAccess, 'file'>;
  readonly notifiers: Notifiers;
  readonly inflight: InflightExchange;
  /** The fd of a new back-end channel. */
  readonly openChannel: () => number;
}

/**
 * The device has taken the fds out of a request; this puts others in.
 * @throws VvuError of scope `request` for what a backend in another process cannot be given
 */
export function adaptRequest(
  descriptor: MessageDescriptor,
  value: unknown,
  { window, notifiers, inflight, openChannel }: AdaptPorts,
): AdaptedRequest {
  // The table's types tie each name to its payload codec, which is where `value` comes from.
  const request = { name: descriptor.name, value } as FrontendRequest;
  switch (request.name) {
    case 'SET_MEM_TABLE':
      return memoryTable(request.value, window);
    case 'ADD_MEM_REG': {
      const [fd, region] = inFile(request.value, request.value.mmapOffset, window);
      return { value: region, fds: [fd] };
    }
    case 'REM_MEM_REG':
      // "The mmap offset is ignored", and no fd should come with it.
      return { value: { ...request.value, mmapOffset: 0n }, fds: [] };
    case 'SET_VRING_KICK':
      return kick(request.value, notifiers);
    case 'SET_VRING_CALL':
      return doorbell('call', request.value, notifiers);
    case 'SET_VRING_ERR':
      return doorbell('err', request.value, notifiers);
    case 'SET_LOG_BASE':
      return logBase(request.value, window);
    case 'SET_BACKEND_REQ_FD':
      return { value, fds: [openChannel()] };
    case 'SET_LOG_FD':
      return { value, fds: [notifiers.doorbell('log', 0)] };
    case 'GET_INFLIGHT_FD':
      return { value: inflight.ask(request.value), fds: [] };
    case 'SET_INFLIGHT_FD': {
      const { value: shown, fd } = inflight.request(request.value);
      return { value: shown, fds: [fd] };
    }
    default:
      return plain(descriptor, value);
  }
}

const PASSED = new Set(['pass', 'features', 'protocol-features', 'cap']);

function plain(descriptor: MessageDescriptor, value: unknown): AdaptedRequest {
  if (PASSED.has(descriptor.action)) return { value, fds: [] };
  throw new VvuError('NOT_SERVED', 'request', `${descriptor.name} cannot be bridged`);
}

/** Regions lie in the window one after the other, mmap_offset + size bytes each. */
function memoryTable(
  regions: readonly MemoryRegion[],
  window: Pick<WindowAccess, 'file'>,
): AdaptedRequest {
  let end = 0n;
  const shown = regions.map((region) => {
    const place = end + region.mmapOffset;
    end = place + region.size;
    return inFile(region, place, window);
  });
  return { value: shown.map(([, region]) => region), fds: shown.map(([fd]) => fd) };
}

/**
 * The region as a backend finds it with `mmap(fd, mmap_offset + size)`, or with `mmap` of `size`
 * bytes at mmap_offset.
 */
function inFile(
  region: MemoryRegion,
  place: bigint,
  window: Pick<WindowAccess, 'file'>,
): [fd: number, region: MemoryRegion] {
  const file = fileOf(place, region.size, window);
  if (file === undefined) {
    throw new VvuError(
      'REGION_NOT_MAPPED',
      'request',
      `the region at guest address ${hex(region.guestAddress)} is trapped, and a backend in ` +
        'another process cannot map it: the window needs a preset file that is the RAM of the ' +
        'frontend, or a client that maps at run time',
    );
  }
  return [file.fd, { ...region, mmapOffset: BigInt(file.offset) }];
}

function fileOf(
  place: bigint,
  size: bigint,
  window: Pick<WindowAccess, 'file'>,
): WindowFile | undefined {
  const reachable = place + size <= BigInt(Number.MAX_SAFE_INTEGER);
  return reachable ? window.file(Number(place), Number(size)) : undefined;
}

/** @throws VvuError `LOG_NOT_MAPPED`: the frontend would migrate without the pages written here */
function logBase(log: LogBase, window: Pick<WindowAccess, 'file'>): AdaptedRequest {
  const place = 'mmapSize' in log ? log : { mmapSize: 0n, mmapOffset: 0n };
  const { mmapSize, mmapOffset } = place;
  const file = fileOf(mmapOffset, mmapSize, window);
  if (file === undefined) {
    throw new VvuError(
      'LOG_NOT_MAPPED',
      'request',
      `the dirty log of ${hex(mmapSize)} bytes at ${hex(mmapOffset)} is trapped, and a backend in ` +
        'another process cannot map it: the frontend cannot be migrated',
    );
  }
  return { value: { mmapSize, mmapOffset: BigInt(file.offset) }, fds: [file.fd] };
}

function kick(request: VringFd, notifiers: Notifiers): AdaptedRequest {
  const fd = request.noFd ? undefined : notifiers.kick(request.index);
  return { value: { ...request, noFd: fd === undefined }, fds: fd === undefined ? [] : [fd] };
}

function doorbell(name: DoorbellName, request: VringFd, notifiers: Notifiers): AdaptedRequest {
  if (request.noFd) {
    notifiers.release(name, request.index);
    return { value: request, fds: [] };
  }
  return { value: request, fds: [notifiers.doorbell(name, request.index)] };
}
