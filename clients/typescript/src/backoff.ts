// PURE. How long to wait before the next attempt to connect.

const FIRST_MS = 100;
const BASE_MS = 500;
const CEILING_MS = 30_000;
/** After a close for too many connections: another connection of the user has to end first. */
export const CROWDED_ATTEMPT = 6;

/** A delay that the gateway has named. `exact` replaces the backoff; otherwise it is the shortest wait. */
export interface ServerDelay {
  ms: number;
  exact: boolean;
}

/**
 * The wait before attempt `attempt`, counted from 0, in milliseconds; `random` is in [0, 1).
 * The first attempt comes after 0 to 100 ms, the others with full jitter.
 */
export function backoff(attempt: number, random: number, server?: ServerDelay | null): number {
  if (server?.exact) return server.ms;
  const span = attempt === 0 ? FIRST_MS : Math.min(CEILING_MS, BASE_MS * 2 ** Math.min(attempt, 16));
  return Math.floor(Math.max(random * span, server ? server.ms + random * FIRST_MS : 0));
}
