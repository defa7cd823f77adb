import test from 'ava';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  ALLOWED_PROTOCOL_FEATURES,
  BACKEND_POLICY,
  FEATURE_POLICY,
  FRONTEND_POLICY,
  type PolicyRow,
} from '../../src/tunnel/index.js';
import { backendMessages, frontendMessages } from '../../src/vhost-user/index.js';
import { projectRoot } from '../support/paths.js';
import { backendRequests, frontendRequests } from '../vhost-user/vectors.js';
import { backendBodies, bodies, documentedRows, policyRows, SPECIFIED } from './policy-table.js';
import * as rig from './rig.js';
import { message, NEED_REPLY, region, Rig, settle, table } from './rig.js';

const KINDS = ['feature', 'frontend', 'backend'] as const;
const ROWS: readonly [string, PolicyRow][] = [
  ...Object.entries(FEATURE_POLICY),
  ...Object.entries(FRONTEND_POLICY),
  ...Object.entries(BACKEND_POLICY),
];

for (const kind of KINDS) {
  test(`${kind} rows: the document says what the code does`, (t) => {
    t.deepEqual(documentedRows(kind), policyRows(kind));
  });

  test(`${kind} rows: all that the specification has, and nothing else`, (t) => {
    const names = policyRows(kind).map(([number, name]) => `${number} ${name}`);
    t.deepEqual(names, SPECIFIED[kind]);
  });
}

test('each row names a test that exists', (t) => {
  const sources = readdirSync(join(projectRoot, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => readFileSync(join(projectRoot, 'test', name), 'utf8'))
    .join('\n');
  for (const [, { test: title }] of ROWS) {
    t.true(sources.includes(`test('${title}'`) || sources.includes(`test("${title}"`), title);
  }
});

test('what is masked or refused has its reason', (t) => {
  for (const [name, { treatment, note }] of ROWS) {
    t.true(!['mask', 'refuse'].includes(treatment) || note !== '', name);
  }
});

test('the allow list is exactly the features whose row does not mask them', (t) => {
  t.is(ALLOWED_PROTOCOL_FEATURES, rig.SHARING_PROTOCOL_FEATURES);
  const r = new Rig({ rules: { shareMemory: true } });
  r.exchange(rig.GET_FEATURES, rig.u64(rig.ALL_FEATURES));
  r.forget();
  r.exchange(rig.GET_PROTOCOL_FEATURES, rig.u64(0xffff_ffff_ffff_ffffn));
  t.deepEqual(r.traffic().frontend, [
    message(rig.GET_PROTOCOL_FEATURES, rig.u64(rig.SHARING_PROTOCOL_FEATURES), rig.REPLY),
  ]);
});

/** Everything is accepted, a vIOMMU and shared memory included; there is memory, and the back-end channel is open. */
async function everything(): Promise<Rig> {
  const r = new Rig({ rules: { shareMemory: true } });
  r.negotiate(rig.SHARING_PROTOCOL_FEATURES, 0x3_4000_0000n);
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 0x10000n, 0x10000n))), 1);
  await settle();
  r.openChannel();
  return r;
}

test('every request of a frontend is treated as its row says', async (t) => {
  for (const [name, { treatment }] of Object.entries(FRONTEND_POLICY)) {
    const descriptor = frontendMessages[name as keyof typeof frontendMessages];
    const r = await everything();
    const body = bodies[name] ?? frontendRequests[name]?.[0]?.le ?? '';
    const fds = descriptor.fds.min;
    r.frontend(message(descriptor.id, body, NEED_REPLY), fds);
    await settle();
    const seen = r.backend.guest.map((hex) => Buffer.from(hex, 'hex').readUInt32LE(0));
    t.deepEqual(seen, treatment === 'refuse' ? [] : [descriptor.id], `${name}: ${r.closedWith}`);
    t.is(r.leaks(), 0, name);
  }
});

test('every request of the guest is treated as its row says', async (t) => {
  for (const [name, { treatment }] of Object.entries(BACKEND_POLICY)) {
    const { id } = backendMessages[name as keyof typeof backendMessages];
    const r = await everything();
    const request = message(id, backendBodies[name] ?? backendRequests[name]?.[0]?.le, NEED_REPLY);
    r.guest(request);
    const refused = treatment === 'refuse';
    // The header; a payload may be changed on its way.
    const sent = r.channel.sent.map((hex) => hex.slice(0, 24));
    t.deepEqual(sent, refused ? [] : [request.slice(0, 24)], name);
    const answer = refused ? [message(id, rig.u64(1n), rig.REPLY)] : [];
    t.deepEqual(r.traffic(), { guest: answer, frontend: [] }, name);
    t.is(r.leaks(), 0, name);
  }
});
