import test from 'ava';
import fc from 'fast-check';
import { decodeHeader, formatMessage } from '../src/index.js';
import { hex } from './hex.js';
import { scriptedServer } from './harness.js';
import { qemuSession } from './vectors.js';

function format(text: string, fds = 0): string {
  const bytes = hex(text);
  return formatMessage(decodeHeader(bytes), bytes.subarray(16), fds);
}

test('one line per message', (t) => {
  t.is(
    format('0700 0900 20000000 00000000 00000000 0010000000000000 07000000 04000000'),
    'VFIO_USER_REGION_READ #7 {offset: 0x1000, region: 7, count: 4}',
  );
  t.is(
    format('0700 0900 22000000 01000000 00000000 0010000000000000 07000000 02000000 aabb'),
    'VFIO_USER_REGION_READ #7 reply {offset: 0x1000, region: 7, count: 2, data: <aabb>}',
  );
  t.is(
    format(
      '0100 0200 30000000 00000000 00000000' +
        '20000000 03000000 0000000000000000 0000000000000000 0000000800000000',
      1,
    ),
    'VFIO_USER_DMA_MAP #1 {flags: 0x3, offset: 0x0, address: 0x0, size: 0x8000000} fds=1',
  );
  t.is(format('0200 0d00 10000000 10000000 00000000'), 'VFIO_USER_DEVICE_RESET #2 no-reply');
  t.is(
    format('0200 0d00 10000000 21000000 16000000'),
    'VFIO_USER_DEVICE_RESET #2 reply error EINVAL',
  );
  t.is(format('0200 6300 12000000 00000000 00000000 0102'), 'command 99 #2 2 bytes');
  t.is(
    format('0200 0d00 12000000 00000000 00000000 0102'),
    'VFIO_USER_DEVICE_RESET #2 malformed (payload of 2 bytes, must be 0)',
  );
  t.regex(format('0200 0100 17000000 00000000 00000000 0000 0000 7b7d00'), /data: "\{\}"/);
});

test('negative offsets, lists and long data are readable', (t) => {
  const info = qemuSession.find(({ name }) => name.includes('argsz 64'))?.reply;
  t.truthy(info);
  if (info === undefined) return;
  t.is(
    formatMessage(decodeHeader(info), info.subarray(16), 1),
    'VFIO_USER_DEVICE_GET_REGION_INFO #5 reply {argsz: 64, flags: 0xf, index: 2, size: 0x2000, ' +
      'offset: -0x1000, areas: [{offset: 0x1000, size: 0x1000}]} fds=1',
  );
  const write = `0100 0a00 34000000 00000000 00000000 0000000000000000 00000000 14000000 ${'ab'.repeat(20)}`;
  t.regex(format(write), /data: 20 bytes (ab){16}…/);
  const multi = `0100 0f00 00000000 00000000 00000000 0a00000000000000 ${`${'00'.repeat(12)}01000000${'00'.repeat(8)}`.repeat(10)}`;
  t.regex(format(multi), /… 10 in all\]/);
});

test('never throws', (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 200 }),
      fc.integer({ min: 0, max: 20 }),
      fc.nat({ max: 2 }),
      (bytes, command, type) => {
        bytes[2] = command;
        bytes[3] = 0;
        bytes[8] = type;
        t.is(typeof formatMessage(decodeHeader(bytes), bytes.subarray(16), 0), 'string');
      },
    ),
    { numRuns: 2000 },
  );
});

test('a trace shows both directions', (t) => {
  const lines: string[] = [];
  const { transport } = scriptedServer({
    log: { trace: (direction, text) => lines.push(`${direction} ${text}`) },
  });
  lines.length = 0;
  transport.message(hex('0200 0d00 10000000 00000000 00000000'));
  t.deepEqual(lines, ['in VFIO_USER_DEVICE_RESET #2', 'out VFIO_USER_DEVICE_RESET #2 reply']);
});
