/** Where processes run: the measuring side on one CPU, whoever answers it on another. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Scope } from './scope.js';

const TASKSET = '/usr/bin/taskset';
const CAN_PIN = availableParallelism() >= 2 && existsSync(TASKSET);

export const MEASURING_CPU = 0;
export const ANSWERING_CPU = 1;

/** The command as one that runs on `cpu`, where there is more than one and taskset. */
export function onCpu(cpu: number, command: string, args: readonly string[]): [string, string[]] {
  return CAN_PIN ? [TASKSET, ['-c', String(cpu), command, ...args]] : [command, [...args]];
}

/** Moves all threads of a running process. */
export function pin(pid: number, cpu: number): void {
  if (CAN_PIN) execFileSync(TASKSET, ['-apc', String(cpu), String(pid)], { stdio: 'ignore' });
}

/** Keeps this thread on the measuring CPU until the scope ends; V8's helpers stay free. */
export function pinSelf(scope: Scope): void {
  if (!CAN_PIN) return;
  const taskset = (cpus: string): Buffer =>
    execFileSync(TASKSET, ['-pc', cpus, String(process.pid)], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  const before = /affinity list: (\S+)/.exec(
    execFileSync(TASKSET, ['-pc', String(process.pid)], { encoding: 'utf8' }),
  )?.[1];
  taskset(String(MEASURING_CPU));
  if (before !== undefined) scope.defer(() => taskset(before));
}
