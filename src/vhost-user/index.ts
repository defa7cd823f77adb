/** The vhost-user wire protocol: constants, one descriptor per message, framing. */
export * from './constants.js';
export { hex, type ByteOrder, type NoPayload, type PayloadCodec, type PayloadOf } from './codec.js';
export { hasOwnReply } from './descriptor.js';
export type {
  MessageDescriptor,
  MessageNeeds,
  ReplyRule,
  RequestOf,
  TunnelAction,
} from './descriptor.js';
export {
  decodeFrame,
  decodeHeader,
  encodeFrame,
  MAX_FDS,
  MAX_PAYLOAD,
  nativeOrder,
  vhostUserFraming,
  type Frame,
  type FrameHeader,
} from './frame.js';
export {
  backendMessage,
  backendMessages,
  frontendMessage,
  frontendMessages,
  unknownMessage,
  type BackendMessageName,
  type FrontendMessageName,
  type FrontendRequest,
} from './messages.js';
export * from './inflight-layout.js';
export { OutstandingReplies, type ExpectedReply } from './outstanding.js';
export { FrameParser, type ReceivedFrame } from './parser.js';
export { u64 } from './payloads/simple.js';
export type { ConfigSpace, ShmemConfig } from './payloads/config.js';
export type { MemoryRegion } from './payloads/memory.js';
export type { DeviceState, Inflight, Iotlb, LogBase, ShmemMap } from './payloads/misc.js';
export type { VringAddress, VringArea, VringFd, VringState } from './payloads/vring.js';
export { describeFrame, describeMessageBytes, type Channel } from './text.js';
