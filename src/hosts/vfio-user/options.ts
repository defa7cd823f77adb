import type { Logger } from '../../log.js';
import type { TunnelRules } from '../../tunnel/index.js';
import type { Layout } from '../layout.js';

/** How the window of a device is made up. Sizes are bytes. */
export interface WindowOptions {
  /** Preset file (memfd path, tmpfs or hugetlbfs): the RAM file of the frontend VM. */
  readonly presetPath: string | undefined;
  /** Bytes of the preset file that the window shows, 0 without one. The file is made if absent. */
  readonly presetSize: number;
  /** Bytes for regions of other files. The BAR is the next power of two of the sum. */
  readonly trappedSize: number;
}

/** A virtio-vhost-user device that vfio-user clients attach. */
export interface VfioUserDeviceOptions {
  /** Names the device in logs and in the state directory. */
  readonly name: string;
  /** Socket on which the VMM of the appliance VM connects. */
  readonly vfioUserPath: string;
  /** Socket of the frontend VM's VMM. */
  readonly vhostUserPath: string;
  /** `server`: frontends connect to us. `client`: we connect to a frontend that listens. */
  readonly vhostUserMode: 'server' | 'client';
  readonly window: WindowOptions;
  readonly layout: Layout;
  /** 1..1024, default 256. */
  readonly maxVhostQueues?: number | undefined;
  /** Textual UUID; without one it is kept in `stateDirectory`, or random. */
  readonly uuid?: string | undefined;
  readonly stateDirectory?: string | undefined;
  /** Default 1af4:1058, the RFC's. */
  readonly pciId?: { readonly vendor: number; readonly device: number } | undefined;
  /** Permission bits of both sockets, default 0600. */
  readonly socketMode?: number | undefined;
  readonly socketGid?: number | undefined;
  /** What becomes of requests that the device does not know, and features to hide. */
  readonly rules?: TunnelRules | undefined;
  readonly logger?: Logger | undefined;
}
