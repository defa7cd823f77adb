import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BACKEND_POLICY, FEATURE_POLICY, FRONTEND_POLICY } from '../../src/tunnel/index.js';
import {
  backendMessages,
  frontendMessages,
  type MessageDescriptor,
} from '../../src/vhost-user/index.js';
import { projectRoot } from '../support/paths.js';
import { addresses, inflight, iotlb, region, state, u64 } from './rig.js';

export type Kind = 'feature' | 'frontend' | 'backend';

function numbered(first: number, names: string): string[] {
  return names
    .trim()
    .split(/\s+/)
    .map((name, index) => `${first + index} ${name}`);
}

/**
 * Numbers and names, written down apart from the constants: all that docs/interop/vhost-user.rst of
 * QEMU 11.1 has. (Its list of feature bits calls bit 4 MTU and bit 22 SHMEM_MAP, its text NET_MTU
 * and SHMEM.)
 */
export const SPECIFIED: Readonly<Record<Kind, readonly string[]>> = {
  feature: numbered(
    0,
    `MQ LOG_SHMFD RARP REPLY_ACK NET_MTU BACKEND_REQ CROSS_ENDIAN CRYPTO_SESSION PAGEFAULT CONFIG
    BACKEND_SEND_FD HOST_NOTIFIER INFLIGHT_SHMFD RESET_DEVICE INBAND_NOTIFICATIONS
    CONFIGURE_MEM_SLOTS STATUS XEN_MMAP SHARED_OBJECT DEVICE_STATE GET_VRING_BASE_INFLIGHT
    GPA_ADDRESSES SHMEM`,
  ),
  frontend: numbered(
    1,
    `GET_FEATURES SET_FEATURES SET_OWNER RESET_OWNER SET_MEM_TABLE SET_LOG_BASE SET_LOG_FD
    SET_VRING_NUM SET_VRING_ADDR SET_VRING_BASE GET_VRING_BASE SET_VRING_KICK SET_VRING_CALL
    SET_VRING_ERR GET_PROTOCOL_FEATURES SET_PROTOCOL_FEATURES GET_QUEUE_NUM SET_VRING_ENABLE
    SEND_RARP NET_SET_MTU SET_BACKEND_REQ_FD IOTLB_MSG SET_VRING_ENDIAN GET_CONFIG SET_CONFIG
    CREATE_CRYPTO_SESSION CLOSE_CRYPTO_SESSION POSTCOPY_ADVISE POSTCOPY_LISTEN POSTCOPY_END
    GET_INFLIGHT_FD SET_INFLIGHT_FD GPU_SET_SOCKET RESET_DEVICE VRING_KICK GET_MAX_MEM_SLOTS
    ADD_MEM_REG REM_MEM_REG SET_STATUS GET_STATUS GET_SHARED_OBJECT SET_DEVICE_STATE_FD
    CHECK_DEVICE_STATE GET_SHMEM_CONFIG`,
  ),
  backend: numbered(
    1,
    `IOTLB_MSG CONFIG_CHANGE_MSG VRING_HOST_NOTIFIER_MSG VRING_CALL VRING_ERR SHARED_OBJECT_ADD
    SHARED_OBJECT_REMOVE SHARED_OBJECT_LOOKUP SHMEM_MAP SHMEM_UNMAP`,
  ),
};

/** Payloads that fit the session of the tests, where a vector of the codec tests does not. */
export const bodies: Readonly<Record<string, string>> = {
  SET_FEATURES: u64(0x1_4000_0000n),
  SET_VRING_NUM: state(0, 256),
  SET_VRING_ADDR: addresses(0, 0x10000n, 0x12000n, 0x11000n),
  SET_VRING_BASE: state(0, 0),
  GET_VRING_BASE: state(0, 0),
  IOTLB_MSG: iotlb(0x1000n, 0x1000n, 0x10000n, 2),
  VRING_KICK: state(0, 0),
  SET_VRING_KICK: u64(0x100n),
  SET_VRING_CALL: u64(0x100n),
  SET_VRING_ERR: u64(0x100n),
  ADD_MEM_REG: u64(0n) + region(0x100000n, 0x1000n, 0x100000n),
  REM_MEM_REG: u64(0n) + region(0n, 0x10000n, 0x10000n),
  GET_INFLIGHT_FD: inflight(0n, 0n, 2, 256),
  SET_INFLIGHT_FD: inflight(0x3000n, 0n, 2, 256),
};

/** Likewise, for requests of the guest. */
export const backendBodies: Readonly<Record<string, string>> = {
  IOTLB_MSG: iotlb(0x1000n, 0n, 0n, 1),
  VRING_CALL: state(0, 0),
  VRING_ERR: state(0, 0),
};

const HEADS: Readonly<Record<Kind, string>> = {
  feature: '| Bit | Name ',
  frontend: '| Id  | Request of a frontend ',
  backend: '| Id  | Request of the guest ',
};

/** Cells of the kind's table in docs/protocol.md, less its head. */
export function documentedRows(kind: Kind): string[][] {
  const lines = readFileSync(join(projectRoot, 'docs/protocol.md'), 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith(HEADS[kind]));
  const rows = start < 0 ? [] : lines.slice(start + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function needs({ needs: { protocolFeature, offered, accepted } }: MessageDescriptor): string {
  const feature = Object.entries(FEATURE_POLICY).find(([, { bit }]) => bit === protocolFeature);
  if (feature !== undefined) return feature[0];
  if (offered !== undefined) return `feature bit ${offered}`;
  return accepted === undefined ? '' : `accepted feature bit ${accepted}`;
}

function messageRows(kind: 'frontend' | 'backend'): string[][] {
  const policy = kind === 'frontend' ? FRONTEND_POLICY : BACKEND_POLICY;
  const messages: Readonly<Record<string, MessageDescriptor>> =
    kind === 'frontend' ? frontendMessages : backendMessages;
  return Object.entries(policy).map(([name, { reply, treatment, note, test }]) => {
    const descriptor = messages[name]!;
    const { min, max } = descriptor.fds;
    const fds = min === max ? (max === 0 ? '' : String(max)) : `${min}-${max}`;
    return [String(descriptor.id), name, fds, reply, needs(descriptor), treatment, note, test];
  });
}

/** The same cells as the code's policy has them. */
export function policyRows(kind: Kind): string[][] {
  if (kind !== 'feature') return messageRows(kind);
  return Object.entries(FEATURE_POLICY).map(([name, { bit, treatment, note, test }]) => [
    String(bit),
    name,
    treatment,
    note,
    test,
  ]);
}
