// The states of a connection.
import type { TidegateError } from "./error.js";
import type { Welcome } from "./frame.js";

/** Why a connection ended. */
export interface EndReason {
  /** A close code of docs/protocol.md, or 1006 if none came. */
  code: number;
  message: string;
  /** What the gateway or the callback for tokens said, if anything. */
  error?: TidegateError | Error;
}

/** Each state, and what is known in it. */
export type ConnectionState =
  /** `connect` has not been called yet. */
  | { name: "idle" }
  /** A token is fetched, then the gateway is asked. `attempt` counts the failures in a row. */
  | { name: "connecting"; attempt: number; reason?: EndReason }
  /** The session is open. While `degraded`, the gateway is without its broker, and the page may be out of date. */
  | { name: "connected"; transport: string; session: Welcome; degraded: boolean }
  /** The connection was lost. The next attempt begins at `until`, in milliseconds since 1970. */
  | { name: "waiting"; attempt: number; until: number; reason: EndReason }
  /** The client does not come back by itself: it was closed, or the gateway refused it for good. */
  | { name: "closed"; reason: EndReason };
