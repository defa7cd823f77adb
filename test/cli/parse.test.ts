import test from 'ava';
import {
  formatSize,
  parseChoice,
  parseInteger,
  parseMode,
  parsePciId,
  parseSize,
  parseWindow,
} from '../../src/cli/parse.js';
import { shellArguments } from '../../src/cli/ready.js';

test('sizes are bytes, or powers of 1024', (t) => {
  t.is(parseSize('4096'), 4096);
  t.is(parseSize('64k'), 65536);
  t.is(parseSize('512M'), 2 ** 29);
  t.is(parseSize('4GiB'), 2 ** 32);
  t.is(parseSize('2T'), 2 ** 41);
  t.is(formatSize(2 ** 32), '4G');
  t.is(formatSize(1536 * 2 ** 20), '1536M');
  t.is(formatSize(4097), '4097');
});

for (const text of ['', '0', '-1', '4.5G', '4X', 'G', '0x10', '99999999999999999T']) {
  test(`'${text}' is no size`, (t) => {
    t.like(
      t.throws(() => parseSize(text)),
      { code: 'BAD_OPTION', scope: 'setup' },
    );
  });
}

test('windows', (t) => {
  t.deepEqual(parseWindow('size=1G'), { path: undefined, size: 2 ** 30, trapped: undefined });
  t.deepEqual(parseWindow('path=/dev/shm/a=b,size=1G,trapped=64M'), {
    path: '/dev/shm/a=b',
    size: 2 ** 30,
    trapped: 2 ** 26,
  });
});

for (const text of ['', 'size', 'path=/x', 'size=1G,size=2G', 'path=,size=1G', 'size=1G,mode=x']) {
  test(`'${text}' is no window`, (t) => {
    t.like(
      t.throws(() => parseWindow(text)),
      { code: 'BAD_OPTION', scope: 'setup' },
    );
  });
}

test('ids, modes, numbers, choices', (t) => {
  t.deepEqual(parsePciId('1AF4:1058'), { vendor: 0x1af4, device: 0x1058 });
  t.throws(() => parsePciId('1af4'), { message: /'1af4'/ });
  t.is(parseMode('0660'), 0o660);
  t.is(parseMode('600'), 0o600);
  t.throws(() => parseMode('0689'), { message: /octal/ });
  const number = parseInteger(1, 10);
  t.is(number('10'), 10);
  for (const text of ['0', '11', '1.5', 'x', '', '1e1']) t.throws(() => number(text));
  const choice = parseChoice(['a', 'b']);
  t.is(choice('b'), 'b');
  t.throws(() => choice('c'), { message: /one of a, b/ });
});

test('arguments survive a shell', (t) => {
  t.is(shellArguments(['-m', '2G', '{"a":"b c"}', "it's"]), `-m 2G '{"a":"b c"}' 'it'\\''s'`);
});
