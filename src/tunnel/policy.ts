import { backendMessages, featureBits, type BackendMessageName } from '../vhost-user/index.js';
import { FEATURE_POLICY } from './policy-features.js';
import { BACKEND_POLICY, FRONTEND_POLICY } from './policy-messages.js';
import type { UnknownRequests } from './unknown-requests.js';

/**
 * What the device does:
 * - `pass`: checks it and passes it on;
 * - `handle`: does the host's part, and the other side gets the rest;
 * - `provide`: gives what a guest cannot give: an fd;
 * - `mask`: takes something out of an answer on its way to the frontend;
 * - `refuse`: the other side never sees it.
 */
export type Treatment = 'pass' | 'handle' | 'provide' | 'mask' | 'refuse';

/** One protocol feature or message in docs/protocol.md. */
export interface PolicyRow {
  readonly treatment: Treatment;
  /** Details, and for `mask` and `refuse` the reason. */
  readonly note: string;
  /** Title of the test that shows it. */
  readonly test: string;
}

/** A message; `reply` is the answer's payload as the document names it. */
export interface MessagePolicy extends PolicyRow {
  readonly reply: string;
}

export type ProtocolFeatureName = keyof typeof FEATURE_POLICY;

/** Names of the protocol features, in the order of their bits. */
export const PROTOCOL_FEATURE_NAMES = Object.keys(FEATURE_POLICY) as ProtocolFeatureName[];

/** What an operator may decide for a device. */
export interface TunnelRules {
  /** Requests that are in no table; default `pass`. */
  readonly unknownRequests?: UnknownRequests | undefined;
  /**
   * Whether a frontend may map memory of the guest (SHMEM), which gives it the file that holds the
   * guest's RAM, all of it. Default false: the feature is masked.
   */
  readonly shareMemory?: boolean | undefined;
  /** Protocol features that no frontend shall see, whatever the guest's backend offers. */
  readonly hiddenFeatures?: readonly ProtocolFeatureName[] | undefined;
}

/** Protocol features that a frontend may see when the guest's backend offers them. */
export const ALLOWED_PROTOCOL_FEATURES = featureBits(
  ...Object.values(FEATURE_POLICY)
    .filter(({ treatment }) => treatment !== 'mask')
    .map(({ bit }) => bit),
);

/** The mask of protocol features by their names in the table. */
export function protocolFeatureMask(names: readonly ProtocolFeatureName[]): bigint {
  return featureBits(...names.map((name) => FEATURE_POLICY[name].bit));
}

function refused(policy: Readonly<Record<string, PolicyRow>>): string[] {
  return Object.entries(policy)
    .filter(([, { treatment }]) => treatment === 'refuse')
    .map(([name]) => name);
}

const refusedRequests: ReadonlySet<string> = new Set(refused(FRONTEND_POLICY));
const refusedBackendRequests: ReadonlySet<number> = new Set(
  refused(BACKEND_POLICY).map((name) => backendMessages[name as BackendMessageName].id),
);

/** Whether a request of the frontend must not reach the guest. */
export function refusesRequest(name: string): boolean {
  return refusedRequests.has(name);
}

/** Whether a request of the guest must not reach the frontend. */
export function refusesBackendRequest(id: number): boolean {
  return refusedBackendRequests.has(id);
}

export { BACKEND_POLICY, FEATURE_POLICY, FRONTEND_POLICY };
