import { pino } from 'pino';
import pretty from 'pino-pretty';
import type { Logger } from '../log.js';
import { LogOutput } from './log-output.js';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const STDERR = 2;

/**
 * Lines on stderr, so that stdout stays for results. Written at once: a line that says why a
 * process ended must not be lost with it.
 */
export function createLogger(level: LogLevel, json: boolean): Logger {
  const options = { level, base: null };
  const output = new LogOutput(STDERR);
  if (json) return pino(options, output);
  const stream = pretty({
    destination: output,
    singleLine: true,
    colorize: process.stderr.isTTY,
    translateTime: 'SYS:HH:MM:ss.l',
  });
  return pino(options, stream);
}
