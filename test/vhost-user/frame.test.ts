import test from 'ava';

import {
  decodeFrame,
  decodeHeader,
  describeMessageBytes,
  encodeFrame,
  FrameParser,
  vhostUserFraming,
  type ReceivedFrame,
} from '../../src/vhost-user/index.js';
import { bytesOf } from './vectors.js';

/** SET_VRING_NUM with need_reply, ring 1 of 256. */
const NUM = '08000000 09000000 08000000 01000000 00010000';
/** GET_FEATURES. */
const GET = '01000000 01000000 00000000';
/** SET_VRING_KICK of ring 2. */
const KICK = '0c000000 01000000 08000000 0200000000000000';

test('a header decodes in both byte orders', (t) => {
  const expected = { request: 8, reply: false, needReply: true, size: 8 };
  t.deepEqual(decodeHeader(bytesOf(NUM), 'LE'), expected);
  t.deepEqual(decodeHeader(bytesOf('00000008 00000009 00000008'), 'BE'), expected);
  t.like(decodeHeader(bytesOf('01000000 05000000 08000000'), 'LE'), { reply: true });
});

test('a frame encodes in both byte orders', (t) => {
  const payload = bytesOf('01000000 00010000');
  t.deepEqual(encodeFrame({ request: 8, needReply: true }, payload, 'LE'), bytesOf(NUM));
  t.is(
    encodeFrame({ request: 1, reply: true }, Buffer.alloc(0), 'BE').toString('hex'),
    '000000010000000500000000',
  );
});

const badHeaders: readonly (readonly [string, string])[] = [
  ['version 0', '01000000 00000000 00000000'],
  ['version 2', '01000000 02000000 00000000'],
  ['version 3', '01000000 03000000 00000000'],
  ['a reserved flag', '01000000 11000000 00000000'],
  ['flag bit 31', '01000000 01000080 00000000'],
  ['4097 bytes of payload', '01000000 01000000 01100000'],
  ['2^32-1 bytes of payload', '01000000 01000000 ffffffff'],
  ['the other byte order', '00000001 00000001 00000000'],
  ['11 bytes', '01000000 01000000 000000'],
];

for (const [what, hex] of badHeaders) {
  test(`a header with ${what} is refused`, (t) => {
    t.throws(() => decodeHeader(bytesOf(hex), 'LE'), { code: 'BAD_HEADER' });
    t.throws(() => decodeFrame(bytesOf(hex), 'LE'), { code: 'BAD_HEADER' });
  });
}

test('a whole message has exactly the payload that its header announces', (t) => {
  t.throws(() => decodeFrame(bytesOf(NUM).subarray(0, 19), 'LE'), { code: 'BAD_HEADER' });
  t.throws(() => decodeFrame(bytesOf(`${NUM} 00`), 'LE'), { code: 'BAD_HEADER' });
  t.is(decodeFrame(bytesOf(NUM), 'LE').payload.toString('hex'), '0100000000010000');
});

function brief(frames: readonly ReceivedFrame[]) {
  return frames.map(({ request, payload, fds }) => [request, payload.toString('hex'), ...fds]);
}

test('a stream parses to the same messages split at every byte', (t) => {
  const stream = bytesOf(NUM + GET + NUM);
  const expected = [
    [8, '0100000000010000'],
    [1, ''],
    [8, '0100000000010000'],
  ];
  for (let split = 0; split <= stream.length; split++) {
    const parser = new FrameParser('LE');
    const frames = [
      ...parser.push(stream.subarray(0, split)),
      ...parser.push(stream.subarray(split)),
    ];
    t.deepEqual(brief(frames), expected, `split at ${split}`);
    t.true(parser.idle);
  }
});

test('fds stay with their message when it is split at every byte', (t) => {
  const stream = bytesOf(KICK);
  for (let split = 1; split < stream.length; split++) {
    const parser = new FrameParser('LE');
    t.deepEqual(parser.push(stream.subarray(0, split), [7]), []);
    t.false(parser.idle);
    const frames = parser.push(stream.subarray(split));
    t.deepEqual(brief(frames), [[12, '0200000000000000', 7]]);
    t.deepEqual(parser.takeFds(), []);
  }
});

test('byte by byte, with fds on the first one', (t) => {
  const parser = new FrameParser('LE');
  const frames = [...bytesOf(KICK)].flatMap((byte, index) =>
    parser.push(Buffer.of(byte), index === 0 ? [3] : []),
  );
  t.deepEqual(brief(frames), [[12, '0200000000000000', 3]]);
});

test('fds of a message that never completes are given back', (t) => {
  const parser = new FrameParser('LE');
  parser.push(bytesOf(KICK).subarray(0, 15), [5, 6]);
  t.deepEqual(parser.takeFds(), [5, 6]);
});

test('fds inside a message, without a byte, or too many of them fail the stream', (t) => {
  const inside = new FrameParser('LE');
  inside.push(bytesOf(NUM).subarray(0, 4));
  t.throws(() => inside.push(bytesOf(NUM).subarray(4), [4]), { code: 'BAD_FDS' });
  t.deepEqual(inside.takeFds(), [4]);
  const nothing = new FrameParser('LE');
  t.throws(() => nothing.push(Buffer.alloc(0), [4]), { code: 'BAD_FDS' });
  t.deepEqual(nothing.takeFds(), [4]);
  const many = new FrameParser('LE');
  t.throws(() => many.push(bytesOf(KICK), [1, 2, 3, 4, 5, 6, 7, 8, 9]), { code: 'BAD_FDS' });
  t.is(many.takeFds().length, 9);
});

test('a stream that failed stays failed and gives its fds back', (t) => {
  const parser = new FrameParser('LE');
  const stream = bytesOf(`${KICK} 01000000 02000000 00000000`);
  t.throws(() => parser.push(stream, [9]), { code: 'BAD_HEADER' });
  t.deepEqual(parser.takeFds(), [9], 'fds of the good message before the bad one');
  t.throws(() => parser.push(bytesOf(GET), [10]), { code: 'BAD_HEADER' });
  t.deepEqual(parser.takeFds(), [10]);
});

test('a transport cuts messages as the header says', (t) => {
  t.deepEqual(vhostUserFraming, {
    headerSize: 12,
    lengthOffset: 8,
    lengthIncludesHeader: false,
    maxMessage: 4108,
    maxFds: 8,
  });
});

test('a message describes itself on one line', (t) => {
  t.is(describeMessageBytes(bytesOf(NUM), 'LE'), 'SET_VRING_NUM need-reply index=1 num=256');
  t.is(describeMessageBytes(bytesOf(GET), 'LE'), 'GET_FEATURES');
  t.is(
    describeMessageBytes(bytesOf('01000000 05000000 08000000 0080005009000000'), 'LE'),
    'GET_FEATURES reply 0x950008000',
  );
  t.is(
    describeMessageBytes(bytesOf('02000000 01000000 00000000'), 'LE', 'backend'),
    'BACKEND_CONFIG_CHANGE_MSG',
  );
  t.is(
    describeMessageBytes(bytesOf('2d000000 01000000 02000000 0000'), 'LE'),
    'request 45 2 bytes',
  );
});

test('what cannot be decoded describes itself too', (t) => {
  t.is(
    describeMessageBytes(bytesOf('08000000 01000000 04000000 01000000'), 'LE'),
    'SET_VRING_NUM <vring state: payload of 4 bytes, expected 8>',
  );
  t.is(describeMessageBytes(bytesOf('0800'), 'LE'), '<vhost-user header: 2 bytes, expected 12>');
});
