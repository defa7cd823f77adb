import test from 'ava';
import { VvuError } from '../../src/errors.js';
import {
  DRIVER_FEATURE,
  CONFIG_MSIX_VECTOR,
  QUEUE_SELECT,
  QUEUE_SIZE,
  QUEUE_MSIX_VECTOR,
  QUEUE_ENABLE,
  QUEUE_DESC,
  QUEUE_RESET,
  ISR,
  NOTIFY,
  driver,
} from './driver.js';

test('status 0 resets once: device, queues, features, vectors, causes', (t) => {
  const d = driver();
  d.bringUp();
  d.cpu.setBar(0, CONFIG_MSIX_VECTOR, 2, 1);
  d.cpu.setBar(0, QUEUE_MSIX_VECTOR, 2, 2);
  d.device.port?.notifyQueue(0);
  d.host.take();
  d.setStatus(0);
  t.deepEqual(d.device.take(), ['reset']);
  t.deepEqual(d.host.take(), ['intx false']);
  t.is(d.status(), 0);
  t.is(d.cpu.bar(0, ISR, 1), 0);
  t.is(d.cpu.bar(0, QUEUE_SELECT, 2), 0);
  for (const [field, value] of [
    [CONFIG_MSIX_VECTOR, 0xffff],
    [QUEUE_MSIX_VECTOR, 0xffff],
    [QUEUE_SIZE, 256],
    [QUEUE_ENABLE, 0],
    [QUEUE_DESC, 0],
    [DRIVER_FEATURE, 0],
  ] as const) {
    t.is(d.cpu.bar(0, field, 2), value);
  }
  d.device.port?.notifyQueue(0);
  d.device.port?.notifyConfig();
  d.device.port?.needsReset('late');
  t.deepEqual(d.host.take(), []);
  t.is(d.status(), 0);
});

for (const kind of ['flr', 'device-reset', 'conventional'] as const) {
  test(`${kind} resets the device once, and it comes up again`, (t) => {
    const d = driver();
    d.bringUp();
    d.device.port?.notifyQueue(0);
    d.function.reset(kind);
    t.deepEqual(d.device.take(), ['reset']);
    t.deepEqual(d.host.take(), ['intx true', 'intx false']);
    t.is(d.status(), 0);
    d.bringUp();
    t.is(d.status(), 15);
  });
}

test('queue_reset gives one queue back, and it can be enabled again', (t) => {
  const d = driver();
  d.bringUp();
  d.cpu.setBar(0, QUEUE_SELECT, 2, 1);
  d.cpu.setBar(0, QUEUE_MSIX_VECTOR, 2, 2);
  d.cpu.setBar(0, QUEUE_RESET, 2, 1);
  t.deepEqual(d.device.take(), ['resetQueue 1']);
  t.is(d.cpu.bar(0, QUEUE_RESET, 2), 0);
  t.is(d.cpu.bar(0, QUEUE_ENABLE, 2), 0);
  t.is(d.cpu.bar(0, QUEUE_SIZE, 2), 128);
  t.is(d.cpu.bar(0, QUEUE_MSIX_VECTOR, 2), 0xffff);
  d.cpu.setBar(0, NOTIFY + 4, 2, 1);
  d.device.port?.notifyQueue(1);
  t.deepEqual(d.device.take(), []);
  t.deepEqual(d.host.take(), []);
  d.setupQueue(1, 0x40000);
  d.cpu.setBar(0, NOTIFY + 4, 2, 1);
  t.deepEqual(d.device.take(), ['enableQueue 1', 'kick 1']);
});

test('queue_reset needs VIRTIO_F_RING_RESET and an enabled queue', (t) => {
  const d = driver();
  d.negotiate(1);
  d.setupQueue(0, 0x10000);
  d.setStatus(15);
  d.device.take();
  d.cpu.setBar(0, QUEUE_RESET, 2, 1);
  t.is(d.cpu.bar(0, QUEUE_ENABLE, 2), 1);
  const e = driver();
  e.negotiate();
  e.device.take();
  e.cpu.setBar(0, QUEUE_RESET, 2, 1);
  t.deepEqual([...d.device.take(), ...e.device.take()], []);
});

test('needsReset sets the bit once and sends a configuration change', (t) => {
  const d = driver();
  d.bringUp();
  d.device.port?.needsReset('bad descriptor');
  d.device.port?.needsReset('and another');
  t.is(d.status(), 15 | 64);
  t.is(d.cpu.bar(0, ISR, 1), 2);
  t.is(d.log.lines.length, 1);
  d.cpu.setBar(0, NOTIFY, 2, 0);
  t.deepEqual(d.device.take(), [], 'a broken device is not kicked');
  d.setStatus(15);
  t.is(d.status(), 15 | 64, 'the driver cannot clear it');
  d.bringUp();
  t.is(d.status(), 15);
});

for (const method of ['acceptFeatures', 'enableQueue', 'start', 'kick', 'resetQueue'] as const) {
  test(`a device that throws in ${method} needs a reset`, (t) => {
    const d = driver();
    const error = new VvuError('DMA_UNMAPPED', 'device', 'address 0x1000');
    d.device.failure = { method, error };
    d.bringUp();
    d.cpu.setBar(0, NOTIFY, 2, 0);
    d.cpu.setBar(0, QUEUE_RESET, 2, 1);
    t.is(d.status() & 64, 64);
    t.true(d.log.lines.some((line) => line.includes('DMA_UNMAPPED')));
    d.bringUp();
    t.is(d.status(), 15);
  });
}

test('a device that throws in reset is reset all the same', (t) => {
  const d = driver();
  d.bringUp();
  d.device.failure = { method: 'reset', error: new Error('our bug') };
  d.setStatus(0);
  t.is(d.status(), 0);
  t.true(d.log.lines.some((line) => line.startsWith('error')));
});
