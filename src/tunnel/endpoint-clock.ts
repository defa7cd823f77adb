/** Time and chance of an endpoint, so that tests can hold both. */
export interface EndpointClock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls back once after `milliseconds`; the result cancels. */
  after(milliseconds: number, callback: () => void): () => void;
  /** In [0, 1). */
  random(): number;
}

export const systemClock: EndpointClock = {
  now: () => performance.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => {
      clearTimeout(timer);
    };
  },
  random: () => Math.random(),
};
