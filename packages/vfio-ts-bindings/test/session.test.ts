import test from 'ava';
import { concat, toHex } from './hex.js';
import { leaked, scriptedServer, type ScriptedServer } from './harness.js';
import { furtherExchanges, qemuSession, qemuSessionCalls, type Exchange } from './vectors.js';

/** Feeds an exchange's request cut at `at`; the fds come with its first byte. */
function feedSplit({ transport, fds }: ScriptedServer, exchange: Exchange, at: number): void {
  const handles = (exchange.fds ?? []).map((label) => fds.open(label));
  const { request } = exchange;
  if (at > 0) transport.feed(request.subarray(0, at), handles);
  transport.feed(request.subarray(at), at > 0 ? [] : handles);
}

test('a session as QEMU leads it', (t) => {
  const server = scriptedServer({}, false);
  for (const exchange of qemuSession) {
    feedSplit(server, exchange, 0);
    const labels = server.transport.sent.flatMap(({ fdLabels }) => fdLabels);
    t.is(toHex(server.transport.take()), toHex(exchange.reply), exchange.name);
    t.deepEqual(labels, exchange.replyFds ?? [], exchange.name);
  }
  t.deepEqual(server.device.calls, qemuSessionCalls);
  t.deepEqual(server.warnings, []);
  t.is(leaked(server), 0);
});

test('the vectors state their own sizes', (t) => {
  for (const { name, request, reply } of [...qemuSession, ...furtherExchanges]) {
    for (const bytes of [request, reply]) {
      if (bytes.length > 0) t.is(Buffer.from(bytes).readUInt32LE(4), bytes.length, name);
    }
  }
});

test('each message may be cut at every byte', (t) => {
  for (const target of qemuSession) {
    for (let at = 1; at < target.request.length; at += 1) {
      const server = scriptedServer({}, false);
      for (const exchange of qemuSession) {
        feedSplit(server, exchange, exchange === target ? at : 0);
        if (exchange === target) break;
        server.transport.sent.length = 0;
      }
      if (toHex(server.transport.take()) !== toHex(target.reply)) {
        t.fail(`${target.name} cut at ${at}`);
      }
      if (leaked(server) !== 0) t.fail(`${target.name} cut at ${at} leaked`);
    }
  }
  t.pass();
});

test('byte by byte', (t) => {
  const server = scriptedServer({}, false);
  for (const exchange of qemuSession) {
    const handles = (exchange.fds ?? []).map((label) => server.fds.open(label));
    exchange.request.forEach((_, i) => {
      server.transport.feed(exchange.request.subarray(i, i + 1), i === 0 ? handles : []);
    });
  }
  t.is(toHex(server.transport.take()), toHex(concat(...qemuSession.map(({ reply }) => reply))));
  t.deepEqual(server.device.calls, qemuSessionCalls);
  t.is(leaked(server), 0);
});

test('messages without fds may come in one chunk', (t) => {
  const server = scriptedServer({}, false);
  const plain = qemuSession.filter(({ fds }) => fds === undefined);
  server.transport.feed(concat(...plain.slice(0, 9).map(({ request }) => request)));
  t.is(
    toHex(server.transport.take()),
    toHex(concat(...plain.slice(0, 9).map(({ reply }) => reply))),
  );
  t.is(leaked(server), 0);
});

for (const exchange of furtherExchanges) {
  test(exchange.name, (t) => {
    const server = scriptedServer();
    feedSplit(server, exchange, 0);
    const labels = server.transport.sent.flatMap(({ fdLabels }) => fdLabels);
    t.is(toHex(server.transport.take()), toHex(exchange.reply));
    t.deepEqual(labels, exchange.replyFds ?? []);
    t.is(leaked(server), 0);
  });
}

test('the connection ends at every byte of the session without a leak', (t) => {
  for (const [last, exchange] of qemuSession.entries()) {
    for (const at of [1, 8, 16, exchange.request.length - 1, exchange.request.length]) {
      const server = scriptedServer({}, false);
      for (const earlier of qemuSession.slice(0, last)) feedSplit(server, earlier, 0);
      const handles = (exchange.fds ?? []).map((label) => server.fds.open(label));
      server.transport.feed(exchange.request.subarray(0, at), handles);
      if (leaked(server) !== 0) t.fail(`${exchange.name} ended at ${at}`);
      if (server.fds.errors.length > 0) t.fail(server.fds.errors.join());
      const expected = last === 0 && at < exchange.request.length ? 0 : 1;
      t.is(server.device.calls.filter((call) => call === 'closed EOF').length, expected);
    }
  }
});
