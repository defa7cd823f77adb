/** The tunnel between one frontend connection and a device's rxq and txq. */
export { SocketEndpoint, type EndpointOptions } from './endpoint.js';
export { systemClock, type Clock } from '../clock.js';
export {
  ALLOWED_PROTOCOL_FEATURES,
  BACKEND_POLICY,
  FEATURE_POLICY,
  FRONTEND_POLICY,
  PROTOCOL_FEATURE_NAMES,
  type MessagePolicy,
  type PolicyRow,
  type ProtocolFeatureName,
  type TunnelRules,
} from './policy.js';
export type {
  DoorbellKind,
  FrontendEndpoint,
  FrontendInflight,
  FrontendLog,
  FrontendRegion,
  ProvidedInflight,
  SharedMemory,
  ShownRegion,
  TunnelBackend,
  TunnelSession,
} from './ports.js';
export { FrontendSession, type SessionOptions, type SessionSocket } from './session.js';
export type { UnknownRequests } from './unknown-requests.js';
