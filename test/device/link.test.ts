import test from 'ava';
import type { LinkEvent, LinkState } from '../../src/device/link.js';
import { linkStatus, nextLinkState } from '../../src/device/link.js';

const EVENTS: LinkEvent[] = ['driver-up', 'driver-down', 'frontend-connected', 'frontend-left'];

/** The whole table, written down from the RFC: undefined is an event that means nothing. */
const EXPECTED: Record<LinkState, (LinkState | undefined)[]> = {
  down: ['waiting', undefined, undefined, undefined],
  waiting: [undefined, 'down', 'connected', undefined],
  connected: [undefined, 'down', undefined, 'down'],
};

test('transitions are exactly those of the RFC', (t) => {
  for (const state of ['down', 'waiting', 'connected'] as const) {
    t.deepEqual(
      EVENTS.map((event) => nextLinkState(state, event)),
      EXPECTED[state],
      state,
    );
  }
});

test('the status register shows SLAVE_UP in bit 0 and MASTER_UP in bit 1', (t) => {
  t.is(linkStatus('down'), 0);
  t.is(linkStatus('waiting'), 1);
  t.is(linkStatus('connected'), 3);
});
