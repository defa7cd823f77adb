import test from 'ava';
import {
  Messages,
  VfioUserError,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  type ClientMemory,
  type TransportPairOptions,
} from '../src/index.js';
import { connected } from './harness.js';

/** Client memory from address 0. */
function ram(size: number): ClientMemory & { readonly bytes: Uint8Array } {
  const bytes = Uint8Array.from({ length: size }, (_, i) => i * 7);
  return {
    bytes,
    read: (address, length) => bytes.slice(address, address + length),
    write: (address, data) => bytes.set(data, address),
  };
}

const transports: readonly (readonly [string, TransportPairOptions])[] = [
  ['delivered at once', {}],
  ['delivered later', { delivery: 'async' }],
  ['in chunks of 7 bytes', { chunkSize: 7 }],
  ['in single bytes, later', { chunkSize: 1, delivery: 'async' }],
  ['through a narrow socket', { highWaterMark: 64, delivery: 'async' }],
];

for (const [name, pairOptions] of transports) {
  test(`negotiation and device information, ${name}`, async (t) => {
    const { client, device, fds, finish } = await connected({}, {}, pairOptions);
    t.deepEqual(client.serverFeatures, {
      maxMsgFds: 16,
      maxDataXferSize: 1024 * 1024,
      maxDmaMaps: 65535,
      pgsizes: 4096,
      writeMultiple: true,
      regionRemap: false,
      maxRemapOps: 0,
    });
    t.deepEqual(await client.deviceInfo(), { flags: 3, numRegions: 9, numIrqs: 5 });
    t.deepEqual(await client.irqInfo(2), { flags: 1, index: 2, count: 4 });

    const config = await client.regionInfo(7);
    t.deepEqual(config, {
      index: 7,
      flags: 3,
      size: 4096,
      offset: 0,
      areas: undefined,
      fd: undefined,
    });
    const bar2 = await client.regionInfo(2);
    t.deepEqual(bar2.areas, [{ offset: 0x1000, size: 0x1000 }]);
    t.is(bar2.offset, -0x1000);
    const bar4 = await client.regionInfo(4);
    t.is(bar4.areas, undefined);
    for (const { fd } of [bar2, bar4]) {
      t.not(fd, undefined);
      if (fd !== undefined) fds.close(fd);
    }
    t.is(device.calls.length, 1);
    t.is(finish(), 0);
    t.deepEqual(fds.errors, []);
  });

  test(`accesses, ${name}`, async (t) => {
    const { client, device, finish } = await connected({}, {}, pairOptions);
    await client.regionWrite(0, 0x10, Uint8Array.of(1, 2, 3, 4));
    client.regionWritePosted(0, 0x14, Uint8Array.of(5));
    client.regionWriteMultiPosted([{ region: 0, offset: 0x15, data: Uint8Array.of(6, 7) }]);
    await client.regionWriteMulti([
      { region: 0, offset: 0x17, data: Uint8Array.of(8) },
      { region: 0, offset: 0x18, data: Uint8Array.of(9, 10, 11, 12, 13, 14, 15, 16) },
    ]);
    t.deepEqual(
      await client.regionRead(0, 0x10, 16),
      Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    );
    t.is((await client.regionRead(7, 0, 4096)).length, 4096);
    const big = new Uint8Array(0x10000).fill(0x5a);
    await client.regionWrite(4, 0, big);
    t.deepEqual(await client.regionRead(4, 0, 0x10000), big);
    await client.reset();
    t.is(device.calls.at(-1), 'reset');
    t.is(finish(), 0);
  });

  test(`memory and interrupts, ${name}`, async (t) => {
    const memory = ram(0x4000);
    const limits = { maxDataXferSize: 4096 };
    const { client, server, device, fds, finish } = await connected(
      { memory, limits },
      {},
      pairOptions,
    );
    const file = fds.open('ram');
    await client.dmaMap({ address: 0, size: 0x2000, fd: file, fileOffset: 0x1000 });
    await client.dmaMap({ address: 0x2000, size: 0x2000, writable: false });
    fds.close(file);
    t.deepEqual(device.calls.slice(1), ['map 0 2000 ram@4096 rw', 'map 2000 2000 - r']);

    // Longer than one transfer, and across two mappings.
    t.deepEqual(await server.dmaRead(0x0801, 0x2fff), memory.bytes.slice(0x0801, 0x3800));
    await server.dmaWrite(0x0ffe, new Uint8Array(0x1002).fill(1));
    t.deepEqual(memory.bytes.slice(0x0ffe, 0x2000), new Uint8Array(0x1002).fill(1));
    t.is((await server.dmaRead(0, 0)).length, 0);
    await t.throwsAsync(server.dmaRead(0x3fff, 2), { code: 'EFAULT' });
    await t.throwsAsync(server.dmaWrite(0x2000, new Uint8Array(1)), { code: 'EPERM' });

    const eventfds = Array.from({ length: 4 }, () => fds.open('vector'));
    await client.setIrqEventFds(2, 0, eventfds);
    t.true(server.triggerIrq(2, 3));
    t.is(fds.signals(eventfds[3] ?? -1), 1);
    t.not(server.irqEventFd(2, 3), eventfds[3]);
    for (const fd of eventfds) fds.close(fd);
    await client.disableIrqs(2);
    t.is(server.irqEventFd(2, 3), undefined);

    await client.dmaUnmap(0, 0x2000);
    await t.throwsAsync(server.dmaRead(0, 1), { code: 'EFAULT' });
    await client.dmaUnmapAll();
    t.is(server.dmaMaps, 0);
    t.is(finish(), 0);
    t.deepEqual(fds.errors, []);
  });
}

test('an unmap may cover several mappings, as QEMU with a vIOMMU sends it', async (t) => {
  const { client, device, server, finish } = await connected();
  for (const page of [1, 2, 5]) await client.dmaMap({ address: page * 4096, size: 4096 });
  await client.dmaUnmap(0, 4 * 4096);
  t.deepEqual(device.calls.slice(-2), ['unmap 1000 1000', 'unmap 2000 1000']);
  t.is(server.dmaMaps, 1);
  t.is(finish(), 0);
});

test('an unmap of what is not mapped changes nothing, as QEMU with a vIOMMU sends it', async (t) => {
  const { client, device, server, finish } = await connected();
  await client.dmaMap({ address: 4096, size: 4096 });
  const calls = [...device.calls];
  for (const [address, size] of [
    [0, 4096],
    [8192, 2 ** 40],
    [2 ** 52, 2 ** 52],
  ] as const) {
    await client.dmaUnmap(address, size);
  }
  t.deepEqual(device.calls, calls);
  t.is(server.dmaMaps, 1);
  t.is(finish(), 0);
});

test('masks by message', async (t) => {
  const { client, server, fds, finish } = await connected();
  const eventfd = fds.open();
  await client.setIrqEventFds(0, 0, [eventfd]);
  const one = { index: 0, start: 0, count: 1 };
  const bools = Uint8Array.of(1);
  await client.setIrqs({
    flags: VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_MASK,
    ...one,
    bools,
  });
  t.true(server.irqMasked(0, 0));
  t.false(server.triggerIrq(0, 0));
  const none = { ...one, bools: undefined };
  await client.setIrqs({ flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, ...none });
  t.is(fds.signals(eventfd), 1);
  await client.setIrqs({ flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, ...none });
  await client.setIrqs({ flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, ...none });
  t.is(fds.signals(eventfd), 2);
  fds.close(eventfd);
  t.is(finish(), 0);
});

test('eventfds are sent in messages that the server accepts', async (t) => {
  const { client, device, fds, finish } = await connected({}, { limits: { maxMsgFds: 3 } });
  const eventfds = Array.from({ length: 4 }, () => fds.open());
  await client.setIrqEventFds(2, 0, eventfds);
  t.deepEqual(device.calls.slice(1), ['irq 2 0 3', 'irq 2 3 1']);
  for (const fd of eventfds) fds.close(fd);
  t.is(finish(), 0);
});

test('an fd that is no eventfd is refused and closed', async (t) => {
  const { client, server, fds, finish } = await connected(
    {},
    {
      checkEventFd: () => {
        throw new Error('not an eventfd');
      },
    },
  );
  const fd = fds.open();
  await t.throwsAsync(client.setIrqEventFds(2, 0, [fd]), { code: 'EINVAL' });
  t.is(server.irqEventFd(2, 0), undefined);
  fds.close(fd);
  t.is(finish(), 0);
});

test('I/O fds: shared ones are sent once', async (t) => {
  const { client, device, fds, finish } = await connected();
  const [a, b] = [fds.open('a'), fds.open('b')];
  const entry = { size: 2, type: VFIO_USER_IO_FD_TYPE_IOEVENTFD, flags: 1 };
  device.ioFds.push({ offset: 0, fd: a, value: 1n, ...entry });
  device.ioFds.push({ offset: 2, fd: b, value: 2n ** 64n - 1n, ...entry });
  device.ioFds.push({ offset: 4, fd: a, value: 3n, ...entry });
  const { entries, fds: received } = await client.regionIoFds(0);
  t.deepEqual(
    received.map((fd) => fds.label(fd)),
    ['a', 'b'],
  );
  t.deepEqual(
    entries.map(({ offset, fdIndex, value }) => [offset, fdIndex, value]),
    [
      [0, 0, 1n],
      [2, 1, 2n ** 64n - 1n],
      [4, 0, 3n],
    ],
  );
  for (const fd of received) fds.close(fd);
  t.is(finish(), 0);
});

test('I/O fds that the client cannot receive in one message are left out', async (t) => {
  const { client, device, fds, finish } = await connected({ limits: { maxMsgFds: 1 } });
  const entry = { size: 2, type: VFIO_USER_IO_FD_TYPE_IOEVENTFD, flags: 0, value: 0n };
  device.ioFds.push({ offset: 0, fd: fds.open('a'), ...entry });
  device.ioFds.push({ offset: 2, fd: fds.open('b'), ...entry });
  const { entries, fds: received } = await client.regionIoFds(0);
  t.is(entries.length, 1);
  for (const fd of received) fds.close(fd);
  t.is(finish(), 0);
});

test('a client without fds gets no mappable regions', async (t) => {
  const { client, finish } = await connected({ limits: { maxMsgFds: 0 } });
  const info = await client.regionInfo(2);
  t.is(info.flags, 3);
  t.is(info.fd, undefined);
  t.is(finish(), 0);
});

test('what the device throws becomes the errno of the reply', async (t) => {
  const { client, device, fds, finish } = await connected();
  device.failure = new VfioUserError('EBUSY', 'later');
  const error = await t.throwsAsync(client.regionRead(0, 0, 4), { instanceOf: VfioUserError });
  t.is(error.code, 'EBUSY');
  t.true(error.remote);
  device.failure = Object.assign(new Error('full'), { code: 'ENOSPC' });
  await t.throwsAsync(client.reset(), { code: 'ENOSPC' });
  device.failure = new TypeError('a bug');
  await t.throwsAsync(client.regionWrite(0, 0, Uint8Array.of(1)), { code: 'EIO' });

  const fd = fds.open('ram');
  device.failure = new VfioUserError('ENOMEM', 'cannot map');
  await t.throwsAsync(client.dmaMap({ address: 0, size: 4096, fd }), { code: 'ENOMEM' });
  await client.dmaMap({ address: 0, size: 4096, fd });
  fds.close(fd);
  t.is(finish(), 0);
  t.deepEqual(fds.errors, []);
});

test('an unmap that the device fails is gone all the same', async (t) => {
  const { client, server, device, finish } = await connected();
  await client.dmaMap({ address: 0, size: 4096 });
  await client.dmaMap({ address: 4096, size: 4096 });
  device.failure = new VfioUserError('EIO', 'munmap');
  await t.throwsAsync(client.dmaUnmap(0, 8192), { code: 'EIO' });
  t.is(server.dmaMaps, 0);
  t.deepEqual(device.calls.slice(-2), ['unmap 0 1000', 'unmap 1000 1000']);
  t.is(finish(), 0);
});

test('a region that cannot be read', async (t) => {
  const { client, device, finish } = await connected();
  const region = { size: 16, readable: false, writable: true };
  Object.defineProperty(device, 'regions', { value: [region] });
  await t.throwsAsync(client.regionRead(0, 0, 4), { code: 'EPERM' });
  await client.regionWrite(0, 0, Uint8Array.of(1));
  t.is((await client.regionInfo(0)).flags, 2);
  t.is(finish(), 0);
});

test('a level interrupt that is deasserted while masked does not fire', async (t) => {
  const { client, server, fds, finish } = await connected();
  const eventfd = fds.open();
  await client.setIrqEventFds(0, 0, [eventfd]);
  t.true(server.triggerIrq(0, 0));
  t.false(server.triggerIrq(0, 0), 'automasked');
  server.clearIrq(0, 0);
  const flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
  await client.setIrqs({ flags, index: 0, start: 0, count: 1, bools: undefined });
  t.is(fds.signals(eventfd), 1);
  fds.close(eventfd);
  t.is(finish(), 0);
});

test('a multiple write stops at the first that fails', async (t) => {
  const { client, device, finish } = await connected();
  const data = Uint8Array.of(1);
  const writes = [0, 0x2000, 1].map((offset) => ({ region: 0, offset, data }));
  const { reply } = await client.request(Messages.REGION_WRITE_MULTI, {
    writes: writes.map((write) => ({ ...write, count: 1 })),
  });
  t.is(reply.count, 1);
  await t.throwsAsync(client.regionWriteMulti(writes), { code: 'EPROTO' });
  t.is(device.calls.length, 3);
  t.is(finish(), 0);
});

test('write_multiple is only used when both sides want it', async (t) => {
  const data = Uint8Array.of(1);
  for (const [mine, theirs] of [
    [false, true],
    [true, false],
  ] as const) {
    const { client, finish } = await connected({ writeMultiple: mine }, { writeMultiple: theirs });
    const writes = [{ region: 0, offset: 0, data }];
    await t.throwsAsync(client.regionWriteMulti(writes), {
      code: 'ENOTSUP',
      message: /negotiated/,
    });
    const raw = { writes: [{ region: 0, offset: 0, count: 1, data }] };
    await t.throwsAsync(client.request(Messages.REGION_WRITE_MULTI, raw), { code: 'ENOTSUP' });
    t.is(finish(), 0);
  }
});

test('device features and migration are not supported', async (t) => {
  const { client, finish } = await connected();
  const flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;
  await t.throwsAsync(client.deviceFeature(flags), { code: 'ENOTSUP' });
  const read = client.request(Messages.MIG_DATA_READ, { argsz: 4096, size: 4088 });
  await t.throwsAsync(read, { code: 'ENOTSUP' });
  t.is(finish(), 0);
});

test('the smaller max_data_xfer_size is in force on both sides', async (t) => {
  const limits = { maxDataXferSize: 8192 };
  for (const [mine, theirs] of [
    [{ limits }, {}],
    [{}, { limits }],
  ]) {
    const { client, server, finish } = await connected(mine, theirs);
    t.is(client.serverFeatures.maxDataXferSize, 8192);
    t.is(server.clientFeatures.maxDataXferSize, 8192);
    t.is((await client.regionRead(4, 0, 8192)).length, 8192);
    await t.throwsAsync(client.regionRead(4, 0, 8193), { code: 'EINVAL' });
    const over = { region: 4, offset: 0, count: 8193 };
    await t.throwsAsync(client.request(Messages.REGION_READ, over), { code: 'EINVAL' });
    t.is(finish(), 0);
  }
});

test('too many DMA maps', async (t) => {
  const { client, server, fds, finish } = await connected({}, { limits: { maxDmaMaps: 3 } });
  t.is(client.serverFeatures.maxDmaMaps, 3);
  const fd = fds.open();
  for (const page of [0, 1, 2]) await client.dmaMap({ address: page * 4096, size: 4096, fd });
  await t.throwsAsync(client.dmaMap({ address: 0x10000, size: 4096, fd }), { code: 'ENOSPC' });
  await client.dmaUnmap(4096, 4096);
  await client.dmaMap({ address: 0x10000, size: 4096, fd });
  t.is(server.dmaMaps, 3);
  fds.close(fd);
  t.is(finish(), 0);
});

test('65,535 DMA maps, each with its own fd', async (t) => {
  const { client, server, fds, finish } = await connected();
  const fd = fds.open('ram');
  for (let page = 0; page < 65_535; page += 1) {
    await client.dmaMap({ address: ((page * 7919) % 65_535) * 4096, size: 4096, fd });
  }
  t.is(server.dmaMaps, 65_535);
  await t.throwsAsync(client.dmaMap({ address: 2 ** 40, size: 4096, fd }), { code: 'ENOSPC' });
  fds.close(fd);
  t.is(finish(), 0);
});
