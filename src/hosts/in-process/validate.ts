import { z } from 'zod';
import { MAX_VHOST_QUEUES } from '../../device/constants.js';
import { VvuError } from '../../errors.js';
import { PROTOCOL_FEATURE_NAMES } from '../../tunnel/index.js';
import { LAYOUTS } from '../layout.js';
import type { VirtioVhostUserOptions } from './options.js';

const method = z.custom<() => unknown>((value) => typeof value === 'function', 'not a function');
/** Longest delay of a timer of Node.js. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const u16 = z.int().min(0).max(0xffff);

const segments = z.object({
  segments: z
    .array(
      z.object({
        address: z.number(),
        length: z.number(),
        fd: z.int().min(0),
        fileOffset: z.number(),
      }),
    )
    .min(1),
});

const accessor = z.object({ read: method, write: method });

const window = z
  .object({
    size: z.int(),
    map: method.optional(),
    unmap: method.optional(),
    timeoutMs: z.int().min(1).max(MAX_TIMER_MS).optional(),
  })
  .refine((port) => (port.map === undefined) === (port.unmap === undefined), {
    message: 'map and unmap go together',
  });

const common = {
  interrupts: z.object({ msix: method, intx: method, eventFd: method.optional() }),
  window,
  doorbells: z.object({ bind: method }).optional(),
  vhostUserPath: z.string().min(1),
  vhostUserMode: z.enum(['server', 'client']).optional(),
  layout: z.enum(LAYOUTS).optional(),
  maxVhostQueues: z.int().min(1).max(MAX_VHOST_QUEUES).optional(),
  uuid: z.string().optional(),
  pciId: z.object({ vendor: u16, device: u16 }).optional(),
  socketMode: z.int().min(0).max(0o777).optional(),
  socketGid: z.int().min(0).optional(),
  rules: z
    .strictObject({
      unknownRequests: z.enum(['pass', 'refuse']).optional(),
      hiddenFeatures: z.array(z.enum(PROTOCOL_FEATURE_NAMES)).optional(),
      shareMemory: z.boolean().optional(),
    })
    .optional(),
  logger: z.object({ child: method, error: method, isLevelEnabled: method }).optional(),
};

const schemas = {
  segments: z.strictObject({ memory: segments, ...common }),
  accessor: z.strictObject({ memory: accessor, ...common }),
};

/**
 * Checks what a caller without TypeScript may have got wrong. The options themselves stay in use:
 * ports may be instances of classes, which a parsed copy would not be.
 * @throws VvuError `BAD_OPTIONS` of scope `setup` that names the option
 */
export function checkOptions(options: VirtioVhostUserOptions): void {
  const { memory }: { memory?: unknown } = z.looseObject({}).catch({}).parse(options);
  const kind =
    typeof memory === 'object' && memory !== null && 'segments' in memory ? 'segments' : 'accessor';
  const { error } = schemas[kind].safeParse(options);
  const issue = error?.issues[0];
  if (!issue) return;
  const where = issue.path.length > 0 ? `option ${issue.path.join('.')}` : 'options';
  throw new VvuError('BAD_OPTIONS', 'setup', `${where}: ${issue.message}`);
}
