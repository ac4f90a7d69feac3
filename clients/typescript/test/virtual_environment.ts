// A machine whose time passes only when a test says so.
import type { Off } from "../src/emitter.js";
import type { Environment, Signal } from "../src/environment.js";

interface Timer {
  at: number;
  order: number;
  run: () => void;
}

/** Lets every promise that can be settled settle. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class VirtualEnvironment implements Environment {
  #now = 0;
  #order = 0;
  #seed: number;
  #timers = new Set<Timer>();
  #listeners = new Set<(signal: Signal) => void>();
  /** Every wait that was asked for. */
  readonly waits: number[] = [];
  /** If set, what `random` returns. */
  fixed: number | null = null;

  constructor(seed = 1) {
    this.#seed = seed;
  }

  now(): number {
    return this.#now;
  }

  date(): number {
    return 1_795_176_000_000 + this.#now;
  }

  timer(ms: number, run: () => void): Off {
    const timer = { at: this.#now + Math.max(0, ms), order: this.#order++, run };
    this.waits.push(ms);
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  random(): number {
    if (this.fixed !== null) return this.fixed;
    // mulberry32
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  id(): string {
    return `id-${++this.#order}`;
  }

  watch(listener: (signal: Signal) => void): Off {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  signal(signal: Signal): void {
    for (const listener of [...this.#listeners]) listener(signal);
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Lets this much time pass, and runs each timer at its time. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.order - b.order);
      if (!next) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = end;
    await settle();
  }

  /** The machine sleeps: time passes, and its timers fire afterwards. */
  async sleep(ms: number): Promise<void> {
    this.#now += ms;
    await this.advance(0);
  }
}
