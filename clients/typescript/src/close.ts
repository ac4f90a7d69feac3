// PURE. Close codes.
import { RECONNECT_RANGES } from "./protocol.js";

/** Whether a client comes back after a close with `code`. */
export function shouldReconnect(code: number): boolean {
  return RECONNECT_RANGES.some(([first, last]) => code >= first && code <= last);
}
