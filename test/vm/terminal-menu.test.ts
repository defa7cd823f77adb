import test, { type ExecutionContext } from 'ava';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';
import { TerminalMenu, type MenuVm } from './terminal-menu.js';

// The keyboard and the screen of `npm run vm`, on a console that is a socket of this process.

interface Rig {
  readonly keyboard: PassThrough;
  readonly menu: TerminalMenu;
  readonly screen: () => string;
  /** Consoles that were connected to, and what each has received. */
  readonly consoles: { readonly socket: Socket; text: string }[];
  readonly shown: () => number;
  readonly quits: () => number;
}

async function rig(
  t: ExecutionContext,
  show = (): Promise<void> => Promise.resolve(),
): Promise<Rig> {
  const folder = await temporaryFolder('menu');
  t.teardown(() => folder.remove());
  const path = join(folder.path, 'console');
  const consoles: { socket: Socket; text: string }[] = [];
  const server = createServer((socket) => {
    const one = { socket, text: '' };
    consoles.push(one);
    socket.setEncoding('utf8').on('data', (text: string) => (one.text += text));
    socket.on('error', () => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => {
    for (const { socket } of consoles) socket.destroy();
    server.close();
  });
  const vms: MenuVm[] = [
    { vm: { name: 'appliance', console: path }, hints: ['uptime'] },
    { vm: { name: 'gone', console: join(folder.path, 'none') }, hints: [] },
  ];
  const keyboard = new PassThrough();
  const output = new PassThrough().setEncoding('utf8');
  let screen = '';
  output.on('data', (text: string) => (screen += text));
  let shown = 0;
  let quits = 0;
  const actions = {
    show: () => {
      shown++;
      return show();
    },
    quit: () => quits++,
  };
  const menu = new TerminalMenu(keyboard, output, vms, actions);
  return {
    ...{ keyboard, menu, consoles },
    screen: () => screen,
    shown: () => shown,
    quits: () => quits,
  };
}

test('a digit attaches, keys go to the guest, Ctrl-] detaches', async (t) => {
  const { keyboard, menu, screen, consoles, quits } = await rig(t);
  keyboard.write('1');
  await until(() => consoles[0]?.text === '\n', 'the line end that brings up a prompt');
  consoles[0]?.socket.write('appliance:/# ');
  await until(() => screen().includes('appliance:/# '), 'the prompt');
  t.regex(screen(), /console of appliance/);
  t.regex(screen(), /uptime/);

  keyboard.write('ls q\x03\r');
  await until(() => consoles[0]?.text.endsWith('ls q\x03\r') === true, 'the keys');
  t.is(quits(), 0, 'Ctrl-C is for the guest');
  menu.say('said meanwhile');
  t.notRegex(screen(), /said meanwhile/);

  const ended = once(consoles[0]!.socket, 'close');
  keyboard.write('x\x1dq');
  await ended;
  await until(() => screen().includes('said meanwhile'), 'what was held back');
  t.true(consoles[0]?.text.endsWith('x'));
  t.is(quits(), 0, 'keys behind Ctrl-] of one stroke are dropped');

  keyboard.write('1');
  await until(() => consoles.length === 2, 'another connection');
  consoles[1]?.socket.destroy();
  await until(() => screen().split('-- left').length === 3, "the end, by the guest's");
  keyboard.write('q');
  await until(() => quits() === 1, 'the end');
  menu.close();
});

test('a console that is not there is said, and other keys work', async (t) => {
  let finish!: () => void;
  const showing = new Promise<void>((resolve) => (finish = resolve));
  const { keyboard, menu, screen, shown, quits } = await rig(t, () => showing);
  keyboard.write('2');
  await until(() => screen().includes('ENOENT'), 'the error');
  keyboard.write('ss');
  await until(() => shown() > 0, 'the round');
  keyboard.write('3?');
  await until(() => screen().split('keys: 1 appliance console, 2 gone console').length > 2, 'help');
  t.is(shown(), 1, 'one at a time');
  finish();
  keyboard.write('\x03');
  await until(() => quits() === 1, 'Ctrl-C');
  menu.close();
  keyboard.write('q');
  await new Promise((resolve) => setImmediate(resolve));
  t.is(quits(), 1);
});

test('a round that fails is said', async (t) => {
  const { keyboard, menu, screen } = await rig(t, () => Promise.reject(new Error('no answer')));
  keyboard.write('s');
  await t.notThrowsAsync(until(() => screen().includes('no answer'), 'the error'));
  menu.close();
});
