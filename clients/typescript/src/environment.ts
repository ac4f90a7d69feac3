// What the library needs of the machine it runs on. Tests give it a machine of their own.
import type { Off } from "./emitter.js";

/**
 * What happens to the page or the machine:
 * `online`, `offline`: the network; `visible`: the page is shown again, or its process continues;
 * `suspend`, `resume`: the page goes into the cache of the browser's history, and comes back.
 */
export type Signal = "online" | "offline" | "visible" | "suspend" | "resume";

export interface Environment {
  /** Milliseconds from an unknown start. It never goes back, and does not stop while the machine sleeps. */
  now(): number;
  /** Milliseconds since 1970. */
  date(): number;
  /** Calls `run` once, after `ms` milliseconds, unless the timer is cancelled. */
  timer(ms: number, run: () => void): Off;
  /** At least 0, less than 1. */
  random(): number;
  /** An id that no other client draws. */
  id(): string;
  watch(listener: (signal: Signal) => void): Off;
}

/** Timers of more milliseconds fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** The browser, worker or program that the library runs in. */
export function systemEnvironment(): Environment {
  let [now, date, tick] = [0, Date.now(), performance.now()];
  return {
    now() {
      // Clocks of the first kind can be set back; those of the second kind may stop while the machine sleeps.
      const [newDate, newTick] = [Date.now(), performance.now()];
      now += Math.max(0, newDate - date, newTick - tick);
      [date, tick] = [newDate, newTick];
      return now;
    },
    date: () => Date.now(),
    timer(ms, run) {
      const timer = setTimeout(run, Math.min(Math.max(ms, 0), TIMER_MS_MAX));
      return () => clearTimeout(timer);
    },
    random: () => Math.random(),
    id,
    watch,
  };
}

function id(): string {
  // Pages without TLS have no `randomUUID`.
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function watch(listener: (signal: Signal) => void): Off {
  // A worker has no document, Node has neither.
  const page = globalThis.document as Document | undefined;
  const target = globalThis as Partial<Pick<typeof globalThis, "addEventListener" | "removeEventListener">>;
  const offs: Off[] = [];
  const on = (at: typeof target | undefined, name: string, run: (event: Event) => void) => {
    at?.addEventListener?.(name, run);
    offs.push(() => at?.removeEventListener?.(name, run));
  };
  on(target, "online", () => listener("online"));
  on(target, "offline", () => listener("offline"));
  on(target, "pagehide", (event) => (event as PageTransitionEvent).persisted && listener("suspend"));
  on(target, "pageshow", (event) => (event as PageTransitionEvent).persisted && listener("resume"));
  on(page, "visibilitychange", () => page?.visibilityState === "visible" && listener("visible"));
  on(page, "resume", () => listener("visible"));
  return () => offs.forEach((off) => off());
}
