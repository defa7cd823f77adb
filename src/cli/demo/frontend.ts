/** Packets that a frontend sent and got back. */
export interface DemoTraffic {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  /** For how long packets were sent. */
  readonly seconds: number;
}

/** A vhost-user frontend that the demo can run. It connects to the device's vhost-user socket. */
export interface DemoFrontend {
  /** What it is, for people. */
  readonly name: string;
  /** Connects, and resolves when its rings run. */
  start(): Promise<void>;
  /** Moves packets for about this long, then waits for those under way. */
  run(milliseconds: number): Promise<DemoTraffic>;
  /** Idempotent. */
  stop(): Promise<void>;
}
