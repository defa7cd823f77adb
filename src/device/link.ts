import {
  VIRTIO_VHOST_USER_STATUS_MASTER_UP as MASTER_UP,
  VIRTIO_VHOST_USER_STATUS_SLAVE_UP as SLAVE_UP,
} from './constants.js';

/**
 * The connection as the RFC's status register shows it.
 * - `down`: the backend is not up; frontends wait.
 * - `waiting`: the backend is up and no frontend is connected.
 * - `connected`: both are up and messages flow.
 */
export type LinkState = 'down' | 'waiting' | 'connected';

export type LinkEvent =
  /** The driver set SLAVE_UP after DRIVER_OK. */
  | 'driver-up'
  /** The driver cleared SLAVE_UP, or the device was reset. */
  | 'driver-down'
  | 'frontend-connected'
  /** The frontend disconnected, or the device dropped it. */
  | 'frontend-left';

/**
 * Every legal transition (RFC, "Device Operation: Vhost-user Status"). A frontend that leaves takes
 * the backend down with it: the driver drains its queues and sets SLAVE_UP again, so that nothing of
 * the old connection reaches the next one.
 */
const TRANSITIONS: Readonly<Record<LinkState, Partial<Record<LinkEvent, LinkState>>>> = {
  down: { 'driver-up': 'waiting' },
  waiting: { 'frontend-connected': 'connected', 'driver-down': 'down' },
  connected: { 'frontend-left': 'down', 'driver-down': 'down' },
};

const STATUS: Readonly<Record<LinkState, number>> = {
  down: 0,
  waiting: SLAVE_UP,
  connected: SLAVE_UP | MASTER_UP,
};

/** The state after `event`, or undefined where the event means nothing in this state. */
export function nextLinkState(state: LinkState, event: LinkEvent): LinkState | undefined {
  return TRANSITIONS[state][event];
}

/** The value of the status register in a state. */
export function linkStatus(state: LinkState): number {
  return STATUS[state];
}
