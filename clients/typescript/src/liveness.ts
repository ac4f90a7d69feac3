// Notices that a connection is dead although nobody has closed it.
import type { Off } from "./emitter.js";
import type { Environment } from "./environment.js";
import type { Link } from "./transport.js";

/** As long as a gateway waits for the answer to its own pings. */
const ANSWER_MS = 10_000;
/** After the machine has slept or the network has changed, an answer that takes longer is not waited for. */
const PROBE_ANSWER_MS = 4_000;
/** A timer that comes this late shows that the machine has slept. */
const LATE_MS = 5_000;
const KEEPALIVE_MS_MIN = 5_000;
/** Ping this much earlier than a proxy was seen to cut the connection. */
const KEEPALIVE_SHARE = 0.75;

export interface LivenessEvents {
  ping(): void;
  lost(reason: string): void;
}

export class Liveness {
  readonly #environment: Environment;
  readonly #events: LivenessEvents;
  #mode: Link["liveness"] = "own";
  #interval = 0;
  /** Shorter than the gateway's interval once a proxy was seen to cut idle connections earlier. */
  #keepalive = Infinity;
  #heard = 0;
  /** For the answer to a ping. */
  #isWaiting = false;
  #cancel: Off = () => {};

  constructor(environment: Environment, events: LivenessEvents) {
    this.#environment = environment;
    this.#events = events;
  }

  /** A session is open. */
  start(mode: Link["liveness"], interval: number): void {
    this.#mode = mode;
    this.#interval = interval;
    this.#isWaiting = true;
    this.heard();
  }

  /** Something came. */
  heard(): void {
    this.#heard = this.#environment.now();
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#watch();
  }

  /** Asks again and again how long nothing has come. */
  #watch(): void {
    if (this.#mode === "own") return;
    const left = this.#heard + Math.min(this.#interval, this.#keepalive) - this.#environment.now();
    if (left > 0) this.#after(left, () => this.#watch());
    else this.#ask(ANSWER_MS);
  }

  /** The network or the machine is not what it was: does the connection still work? */
  probe(): void {
    if (this.#mode === "ping") this.#ask(PROBE_ANSWER_MS);
  }

  /** The link has ended. If a proxy has cut it while it was idle, further ones are kept busy. */
  stop(code: number): void {
    const idle = this.#environment.now() - this.#heard;
    const wasCut = code === 1006 && this.#mode === "ping" && !this.#isWaiting;
    if (wasCut && idle >= KEEPALIVE_MS_MIN) {
      this.#keepalive = Math.max(KEEPALIVE_MS_MIN, Math.min(this.#keepalive, idle * KEEPALIVE_SHARE));
    }
    this.#mode = "own";
    this.#cancel();
  }

  #ask(within: number): void {
    this.#isWaiting = true;
    this.#events.ping();
    this.#after(within, () => this.#events.lost("nothing came for too long"));
  }

  #after(ms: number, run: () => void): void {
    this.#cancel();
    const due = this.#environment.now() + ms;
    this.#cancel = this.#environment.timer(ms, () => {
      // Timers stand still while a machine sleeps: what is late has not been waited for.
      if (this.#environment.now() - due > LATE_MS) this.#ask(PROBE_ANSWER_MS);
      else run();
    });
  }
}
