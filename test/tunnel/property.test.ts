import test from 'ava';
import fc from 'fast-check';

import { VvuError } from '../../src/errors.js';
import { frontendMessages, type MessageDescriptor } from '../../src/vhost-user/index.js';
import { message, NEED_REPLY, REPLY, Rig, settle } from './rig.js';

const descriptors: readonly MessageDescriptor[] = Object.values(frontendMessages);

/** Requests that are often well-formed: right sizes, small numbers. */
const plausible = fc
  .record({
    descriptor: fc.constantFrom(...descriptors),
    head: fc.uint8Array({ maxLength: 8 }),
    sparse: fc.uint8Array({ minLength: 8, maxLength: 48 }),
    useSparse: fc.boolean(),
  })
  .map(({ descriptor, head, sparse, useSparse }) => {
    const payload = Buffer.alloc(descriptor.request.minSize);
    Buffer.from(useSparse ? sparse : head.map((byte) => byte & 1)).copy(payload);
    return { request: descriptor.id, payload: payload.toString('hex') };
  });
const random = fc.record({
  request: fc.integer({ min: 0, max: 50 }),
  payload: fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes).toString('hex')),
});
const flags = fc.constantFrom(0, 0, NEED_REPLY, NEED_REPLY, REPLY, 1, 2, 0x10);

const step = fc.oneof(
  fc.record({
    kind: fc.constant('frontend' as const),
    body: fc.oneof({ weight: 4, arbitrary: plausible }, random),
    flags,
    fds: fc.constantFrom(0, 0, 0, 1, 1, 2, 8),
  }),
  fc.record({
    kind: fc.constant('guest' as const),
    body: fc.oneof(plausible, random),
    flags: fc.constantFrom(REPLY, REPLY, REPLY, 0, 2),
  }),
  fc.record({
    kind: fc.constantFrom('room', 'no-room', 'full', 'writable', 'refuse', 'settle', 'answer'),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function perform(r: Rig, action: Step): Promise<void> {
  switch (action.kind) {
    case 'frontend': {
      const { body, fds } = action;
      r.frontend(message(body.request, body.payload, action.flags), fds);
      break;
    }
    case 'guest':
      r.guest(message(action.body.request, action.body.payload, action.flags));
      break;
    case 'room':
      r.backend.room = 3;
      r.session.roomInRxq();
      break;
    case 'no-room':
      r.backend.room = 0;
      break;
    case 'full':
      r.socket.highWater = 0;
      break;
    case 'writable':
      r.socket.highWater = Infinity;
      r.socket.handlers?.writable?.();
      break;
    case 'refuse':
      r.backend.error = new VvuError('NO', 'request', 'no');
      break;
    case 'answer':
      r.guest(message(1, 'ffffffffffffffff', REPLY));
      break;
    default:
      await settle();
  }
}

test('whatever frontend and guest send: coded errors, bounded output, no fd leaks', async (t) => {
  const outcomes = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 40 }), async (ready, steps) => {
      const r = ready ? new Rig().negotiate() : new Rig();
      for (const action of steps) {
        try {
          await perform(r, action);
        } catch (error) {
          // What a guest sends may be the driver's fault; the device handles that.
          t.true(error instanceof VvuError && error.scope === 'device', String(error));
          t.is(action.kind, 'guest');
        }
        if (r.closedWith === 'NOT_PAUSED') {
          // The fake socket does not honour pause.
          break;
        }
      }
      await settle();
      const outcome = r.closedWith ?? 'alive';
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      t.is(r.leaks(), 0);
      t.is(r.backend.closedCount, 1);
      for (const hex of r.backend.guest) {
        // Towards the guest: version 1, never a reply, at most need_reply.
        t.regex(hex, /^[0-9a-f]{2}000000(01|09)000000/);
      }
    }),
    { numRuns: 1500 },
  );
  t.true((outcomes.get('alive') ?? 0) > 20, JSON.stringify([...outcomes]));
  t.true(outcomes.size > 5);
});
