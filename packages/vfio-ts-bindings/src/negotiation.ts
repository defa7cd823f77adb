import { parseCapabilities, withDefaults, type Capabilities } from './capabilities.js';
import type { VersionPayload } from './codec/version.js';
import type { PeerFeatures } from './connection.js';
import {
  REGION_REMAP_DEFAULT_MAX_OPS,
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_DEFAULT_PGSIZES,
  VFIO_USER_MAJOR,
  VFIO_USER_MINOR,
} from './constants.js';
import { VfioUserError } from './errors.js';
import type { VfioUserLimits } from './limits.js';

/** The smallest page that DMA maps and mmap areas are made of. */
export const PAGE_SIZE = 4096;

/** What is in force before a version was negotiated: nothing. */
export const NO_FEATURES: PeerFeatures = {
  maxMsgFds: 0,
  maxDataXferSize: 0,
  maxDmaMaps: 0,
  pgsizes: 0,
  writeMultiple: false,
  regionRemap: false,
  maxRemapOps: 0,
};

/** Which optional parts of the protocol this side is willing to use. */
export interface Willing {
  readonly writeMultiple: boolean;
  readonly regionRemap: boolean;
}

interface Negotiated {
  readonly features: PeerFeatures;
  readonly reply: VersionPayload;
}

/**
 * The server's side: what is in force with a client that proposed `request`, and the reply. Values
 * that a peer bounds are the smaller ones of both sides; nothing is in the reply that was not
 * proposed, apart from bounds below the default that the client would otherwise assume.
 * @throws VfioUserError ENOTSUP (another major version; the connection is to be closed) or EINVAL
 */
export function acceptVersion(
  request: VersionPayload,
  limits: VfioUserLimits,
  willing: Willing,
): Negotiated {
  if (request.major !== VFIO_USER_MAJOR) {
    throw new VfioUserError('ENOTSUP', `version ${request.major}.${request.minor} not supported`);
  }
  const proposed = parseCapabilities(request.data, limits.maxVersionData);
  const features = combine(proposed, proposed.remapOps, limits, willing);
  const { maxDataXferSize, maxDmaMaps, pgsizes } = features;
  const caps: Record<string, unknown> = {};
  if (proposed.maxMsgFds !== undefined) caps['max_msg_fds'] = limits.maxMsgFds;
  if (
    proposed.maxDataXferSize !== undefined ||
    maxDataXferSize !== VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE
  ) {
    caps['max_data_xfer_size'] = maxDataXferSize;
  }
  if (proposed.maxDmaMaps !== undefined || maxDmaMaps !== VFIO_USER_DEFAULT_MAX_DMA_MAPS) {
    caps['max_dma_maps'] = maxDmaMaps;
  }
  if (proposed.pgsizes !== undefined) caps['pgsizes'] = pgsizes;
  if (features.writeMultiple) caps['write_multiple'] = true;
  if (features.regionRemap) caps['region_remap'] = true;
  const data = JSON.stringify({ capabilities: caps });
  const minor = Math.min(request.minor, VFIO_USER_MINOR);
  return { features, reply: { major: VFIO_USER_MAJOR, minor, data } };
}

/** The client's proposal. */
export function proposeVersion(limits: VfioUserLimits, willing: Willing): VersionPayload {
  const caps: Record<string, unknown> = {
    max_msg_fds: limits.maxMsgFds,
    max_data_xfer_size: limits.maxDataXferSize,
    max_dma_maps: limits.maxDmaMaps,
    pgsizes: VFIO_USER_DEFAULT_PGSIZES,
  };
  if (willing.writeMultiple) caps['write_multiple'] = true;
  if (willing.regionRemap) caps['region_remap'] = { max_ops: REGION_REMAP_DEFAULT_MAX_OPS };
  const data = JSON.stringify({ capabilities: caps });
  return { major: VFIO_USER_MAJOR, minor: VFIO_USER_MINOR, data };
}

/**
 * The client's side: what is in force after the server's reply.
 * @throws VfioUserError EPROTO (a version that was not proposed) or EINVAL
 */
export function concludeVersion(
  reply: VersionPayload,
  limits: VfioUserLimits,
  willing: Willing,
): PeerFeatures {
  if (reply.major !== VFIO_USER_MAJOR || reply.minor > VFIO_USER_MINOR) {
    throw new VfioUserError('EPROTO', `server answered with version ${reply.major}.${reply.minor}`);
  }
  const answered = parseCapabilities(reply.data, limits.maxVersionData);
  // How many operations a command may have is what this client offered, not what it was answered.
  const remapOps = answered.remapOps === undefined ? undefined : REGION_REMAP_DEFAULT_MAX_OPS;
  return combine(answered, remapOps, limits, willing);
}

function combine(
  peer: Capabilities,
  remapOps: number | undefined,
  limits: VfioUserLimits,
  willing: Willing,
): PeerFeatures {
  const { maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes } = withDefaults(peer);
  if (pgsizes % PAGE_SIZE !== 0) {
    throw new VfioUserError('EINVAL', `page sizes 0x${pgsizes.toString(16)} below 4096`);
  }
  const regionRemap = willing.regionRemap && remapOps !== undefined;
  return {
    maxMsgFds,
    maxDataXferSize: Math.min(maxDataXferSize, limits.maxDataXferSize),
    maxDmaMaps: Math.min(maxDmaMaps, limits.maxDmaMaps),
    pgsizes,
    writeMultiple: willing.writeMultiple && peer.writeMultiple === true,
    regionRemap,
    maxRemapOps: regionRemap ? remapOps : 0,
  };
}
