import test from 'ava';
import { BackendRequests } from '../../src/guest/backend-requests.js';
import { backendMessages, decodeFrame } from '../../src/vhost-user/index.js';
import { FakeClock } from '../support/fake-clock.js';
import { recordingLogger, type LogLine } from '../tunnel/fakes.js';

const { CONFIG_CHANGE_MSG, VRING_CALL, SHARED_OBJECT_LOOKUP } = backendMessages;
/** BACKEND_CONFIG_CHANGE_MSG with and without need_reply, by hand. */
const CHANGED_ASKING = '020000000900000000000000';
const CHANGED = '020000000100000000000000';

class Rig {
  readonly sent: string[] = [];
  readonly clock = new FakeClock();
  readonly log: LogLine[] = [];
  room = true;
  acknowledged = true;
  readonly requests = new BackendRequests({
    send: (message) => {
      if (this.room) this.sent.push(message.toString('hex'));
      return this.room;
    },
    acknowledged: () => this.acknowledged,
    log: recordingLogger(this.log),
    clock: this.clock,
  });

  constructor() {
    this.requests.open();
  }

  change(options?: { timeoutMs: number }): Promise<void> {
    return this.requests.request(CONFIG_CHANGE_MSG, undefined, options);
  }

  reply(hex: string): void {
    this.requests.reply(decodeFrame(Buffer.from(hex.replaceAll(' ', ''), 'hex'), 'LE'));
  }
}

const reply = (request: string, value: string) => `${request} 05000000 08000000 ${value}`;
const OK = reply('02000000', '0000000000000000');
const NO = reply('02000000', '0100000000000000');

test('a request waits for its acknowledgement', async (t) => {
  const rig = new Rig();
  const done = rig.change();
  t.deepEqual(rig.sent, [CHANGED_ASKING]);
  rig.reply(OK);
  await t.notThrowsAsync(done);
  const refused = rig.change();
  rig.reply(NO);
  await t.throwsAsync(refused, { code: 'REFUSED' });
  rig.clock.advance(60_000);
});

test('without REPLY_ACK nothing is waited for, but for a reply of its own', async (t) => {
  const rig = new Rig();
  rig.acknowledged = false;
  await rig.change();
  rig.requests.notify(CONFIG_CHANGE_MSG, undefined);
  t.deepEqual(rig.sent, [CHANGED, CHANGED]);
  const lookup = rig.requests.request(SHARED_OBJECT_LOOKUP, Buffer.alloc(16));
  rig.reply(reply('08000000', '0100000000000000'));
  await t.throwsAsync(lookup, { code: 'REFUSED' });
});

test('replies belong to the requests in their order', async (t) => {
  const rig = new Rig();
  const first = rig.change();
  const second = rig.requests.request(VRING_CALL, { index: 1, num: 0 });
  const third = rig.change();
  rig.reply(reply('04000000', '0000000000000000'));
  t.is(rig.log.length, 1, 'not due, dropped');
  rig.reply(OK);
  rig.reply(reply('04000000', '0000000000000000'));
  rig.reply(NO);
  await t.notThrowsAsync(first);
  await t.notThrowsAsync(second);
  await t.throwsAsync(third, { code: 'REFUSED' });
});

test('a reply that is late is not taken for the next one', async (t) => {
  const rig = new Rig();
  const first = rig.change({ timeoutMs: 10 });
  rig.clock.advance(11);
  await t.throwsAsync(first, { code: 'TIMEOUT' });
  const second = rig.change();
  rig.reply(OK);
  rig.reply(NO);
  await t.throwsAsync(second, { code: 'REFUSED' });
});

test('no channel, no room, too much on its way, and a frontend that leaves', async (t) => {
  const rig = new Rig();
  rig.requests.close('the frontend left');
  t.false(rig.requests.available);
  await t.throwsAsync(rig.change(), { code: 'NO_CHANNEL' });
  t.throws(() => rig.requests.notify(CONFIG_CHANGE_MSG, undefined), { code: 'NO_CHANNEL' });
  rig.requests.open();
  rig.room = false;
  await t.throwsAsync(rig.change(), { code: 'NO_ROOM' });
  rig.room = true;
  const owed = Array.from({ length: 32 }, () => rig.change());
  await t.throwsAsync(rig.change(), { code: 'NO_ROOM' });
  rig.requests.close('the frontend left');
  for (const one of owed) await t.throwsAsync(one, { code: 'DISCONNECTED' });
  t.is(rig.sent.length, 32);
});

test('a reply of the wrong size is an error of the request', async (t) => {
  const rig = new Rig();
  const done = rig.change();
  rig.reply('02000000 05000000 04000000 00000000');
  await t.throwsAsync(done, { code: 'BAD_REPLY' });
});
