import test from 'ava';
import { DeviceConfig } from '../../src/device/config.js';

const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

function setup() {
  const status: boolean[] = [];
  const bad: number[] = [];
  const config = new DeviceConfig(
    256,
    uuid,
    ({ slaveUp }) => status.push(slaveUp),
    (bits) => bad.push(bits),
  );
  return { config, status, bad };
}

function read(config: DeviceConfig, offset: number, length: number): string {
  const target = Buffer.alloc(length, 0xee);
  config.read(offset, target);
  return target.toString('hex');
}

test('the configuration reads the same byte by byte and at once', (t) => {
  const { config } = setup();
  config.status = 3;
  const expected = '0300000000010000' + uuid.toString('hex');
  t.is(read(config, 0, 24), expected);
  const bytes = Array.from({ length: 24 }, (_, i) => read(config, i, 1)).join('');
  t.is(bytes, expected);
});

test('the driver sets SLAVE_UP with one dword or with four single bytes', (t) => {
  const { config, status, bad } = setup();
  config.write(0, Buffer.from([1, 0, 0, 0]));
  t.deepEqual(status, [true]);
  for (const [offset, byte] of [1, 0, 0, 0].entries()) config.write(offset, Buffer.from([byte]));
  t.deepEqual(status, [true, true]);
  t.deepEqual(bad, []);
});

test('a stale MASTER_UP bit in a write means nothing', (t) => {
  const { config, status, bad } = setup();
  config.write(0, Buffer.from([2]));
  config.write(0, Buffer.from([3]));
  t.deepEqual(status, [false, true]);
  t.deepEqual(bad, []);
  t.is(config.status, 0, 'only the device changes what is read');
});

test('unknown status bits are reported, in any byte, and change nothing', (t) => {
  const { config, status, bad } = setup();
  config.write(0, Buffer.from([5]));
  config.write(3, Buffer.from([0x80]));
  config.write(0, Buffer.from([1, 0, 1, 0]));
  t.deepEqual(status, []);
  t.deepEqual(bad, [4, 0x80000000, 0x10000]);
});

test('read-only fields ignore writes', (t) => {
  const { config, bad, status } = setup();
  config.write(4, Buffer.alloc(20, 0xff));
  t.is(read(config, 4, 4), '00010000');
  t.is(read(config, 8, 16), uuid.toString('hex'));
  t.deepEqual(bad, []);
  t.deepEqual(status, []);
});
