import { featureBits } from '../vhost-user/index.js';
import { FEATURE_POLICY } from './policy-features.js';
import { BACKEND_POLICY, FRONTEND_POLICY } from './policy-messages.js';

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

/** Protocol features that a frontend may see when the guest's backend offers them. */
export const ALLOWED_PROTOCOL_FEATURES = featureBits(
  ...Object.values(FEATURE_POLICY)
    .filter(({ treatment }) => treatment !== 'mask')
    .map(({ bit }) => bit),
);

const refusedRequests: ReadonlySet<string> = new Set(
  Object.entries(FRONTEND_POLICY)
    .filter(([, { treatment }]) => treatment === 'refuse')
    .map(([name]) => name),
);

/** Whether a request of the frontend must not reach the guest. */
export function refusesRequest(name: string): boolean {
  return refusedRequests.has(name);
}

export { BACKEND_POLICY, FEATURE_POLICY, FRONTEND_POLICY };
