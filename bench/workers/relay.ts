/** Each signal of eventfd 3 becomes one of eventfd 4, through JavaScript. Ends with its stdin. */
import { native } from '../../src/native.js';

const SOURCE = 3;
const TARGET = 4;

native.watchEventFd(SOURCE, () => native.signalEventFd(TARGET));
process.stdin.on('end', () => process.exit(0)).resume();
process.stdout.write('ready\n');
