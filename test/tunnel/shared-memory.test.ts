import test from 'ava';
import { VvuError } from '../../src/errors.js';
import * as rig from './rig.js';
import { message, NEED_REPLY, REPLY, Rig, u64 } from './rig.js';

const rules = { shareMemory: true };

/** VhostUserMMap: shmid and padding, fd_offset, shm_offset, length, flags. */
function map(fdOffset: bigint, length: bigint, flags: bigint): string {
  return u64(3n) + u64(fdOffset) + u64(0x8000n) + u64(length) + u64(flags);
}

/** A session of a frontend that may map memory of the guest, with its channel. */
function sharing(): Rig {
  const r = new Rig({ rules }).negotiate(rig.SHARING_PROTOCOL_FEATURES);
  r.openChannel();
  return r;
}

test('SHMEM: memory of the guest is mapped by the frontend, if it is shared', (t) => {
  const r = sharing();
  const { channel } = r;
  r.frontend(message(rig.GET_SHMEM_CONFIG));
  const config = u64(1n) + u64(0x10000n);
  r.guest(message(rig.GET_SHMEM_CONFIG, config, REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(rig.GET_SHMEM_CONFIG)],
    frontend: [message(rig.GET_SHMEM_CONFIG, config, REPLY)],
  });
  r.guest(message(rig.SHMEM_MAP, map(0x7000n, 0x2000n, 1n), NEED_REPLY));
  t.deepEqual(r.backend.calls, ['share 7000 2000 rw']);
  r.guest(message(rig.SHMEM_MAP, map(0x9000n, 0x1000n, 0n)));
  r.guest(message(rig.SHMEM_UNMAP, map(0n, 0x2000n, 0n)));
  t.deepEqual(channel.sent, [
    message(rig.SHMEM_MAP, map(0x107000n, 0x2000n, 1n), NEED_REPLY),
    message(rig.SHMEM_MAP, map(0x109000n, 0x1000n, 0n)),
    message(rig.SHMEM_UNMAP, map(0n, 0x2000n, 0n)),
  ]);
  t.is(channel.sentFds.length, 2, 'one file each');
  channel.says(message(rig.SHMEM_MAP, u64(0n), REPLY));
  t.deepEqual(r.traffic().guest, [message(rig.SHMEM_MAP, u64(0n), REPLY)]);
  t.is(r.leaks(), 0);
});

test('memory that cannot be shared is refused, and the channel goes on', (t) => {
  const r = sharing();
  r.backend.error = new VvuError('BAD_SHMEM', 'request', '4096 bytes of guest memory at 0x7000');
  r.guest(message(rig.SHMEM_MAP, map(0x7000n, 0x1000n, 1n), NEED_REPLY));
  t.deepEqual(r.traffic().guest, [message(rig.SHMEM_MAP, u64(1n), REPLY)]);
  r.guest(message(rig.SHMEM_MAP, map(0x7000n, 0x1000n, 2n), NEED_REPLY));
  t.deepEqual(r.traffic().guest, [message(rig.SHMEM_MAP, u64(1n), REPLY)], 'reserved flags');
  t.deepEqual(r.channel.sent, []);
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('what waits behind 64 replies that are owed keeps no file open', (t) => {
  const r = sharing();
  for (let count = 0; count < 70; count++) {
    r.guest(message(rig.SHMEM_MAP, map(0x7000n, 0x1000n, 1n), NEED_REPLY));
  }
  t.true(r.channel.closed);
  t.is(r.leaks(), 0);
});

test('without the rule the feature is not offered', (t) => {
  const r = new Rig();
  r.exchange(rig.GET_FEATURES, u64(rig.ALL_FEATURES));
  r.forget();
  r.exchange(rig.GET_PROTOCOL_FEATURES, u64(rig.ALL_PROTOCOL_FEATURES));
  const offered = u64(rig.TUNNELLED_PROTOCOL_FEATURES);
  t.deepEqual(r.traffic().frontend, [message(rig.GET_PROTOCOL_FEATURES, offered, REPLY)]);
});
