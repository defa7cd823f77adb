import test from 'ava';
import { BridgeRig } from './bridge-rig.js';

/** GET_PROTOCOL_FEATURES and its reply: le32 request, le32 flags, le32 size, le64. */
const GET_PROTOCOL_FEATURES = '0f0000000100000000000000';
const offer = (bits: string) => `0f0000000500000008000000${bits}00000000000000`;

for (const [remaps, offered] of [
  [true, '1f'],
  [false, '1d'],
] as const) {
  const what = remaps ? 'can be mapped' : 'would be trapped';
  test(`where a log ${what} the backend's 0x1f is offered as 0x${offered}`, (t) => {
    const rig = new BridgeRig({ remaps });
    t.teardown(() => rig.close());
    const backend = rig.connect();
    rig.request(GET_PROTOCOL_FEATURES);
    backend.says(offer('1f'));
    t.deepEqual(rig.replies(), [offer(offered)]);
  });
}
