// The frames of tidegate.v1 as types.
import type { ACK_LEVELS, CLIENT_TYPES, ERROR_CODES, GAP_REASONS, GATEWAY_TYPES } from "./protocol.js";
import type { Position } from "./position.js";

/** A value of a list that a later gateway may extend. */
type Open<T extends string> = T | (string & {});
export type ErrorCode = (typeof ERROR_CODES)[number];
export type AckLevel = Open<(typeof ACK_LEVELS)[number]>;
/** The last two are the library's own: see the README. */
export type GapReason = Open<(typeof GAP_REASONS)[number] | "transport" | "unconfirmed">;

/** A message, as a publisher has published it. `M` has the payload of each type. */
export type Message<M extends object = Record<string, unknown>> = {
  [T in keyof M & string]: {
    type: T;
    channel: string;
    /** Bytes if it was published as bytes. */
    payload: M[T];
    timestamp: string;
    correlation_id?: string | null;
    /** Absent if it was published while the gateway was without its broker. */
    position?: Position;
  };
}[keyof M & string];

export interface Welcome {
  session_id: string;
  user: string;
  tenant: string;
  instance: string;
  ping_interval_ms: number;
  message_bytes_max: number;
  messages_per_second: number;
  channels_max: number;
  /** When the token expires, if the gateway says so. */
  expires_in_ms?: number;
}

/** Messages of a subscription are missing, or may be. */
export interface Gap {
  /** The last position that the client is known to have seen. */
  after: Position | null;
  /** The subscription continues after this one. It may be older than `after`. */
  upto: Position | null;
  reason: GapReason;
  /** Whether messages are missing for certain. */
  certain: boolean;
}

export interface Member {
  user: string;
  since: string;
  info?: Record<string, unknown>;
}

interface Payloads {
  welcome: Welcome;
  restored: { found: boolean; repeats?: boolean; channels?: string[]; session_id?: string };
  subscribed: { resumed: boolean; degraded: boolean };
  unsubscribed: undefined;
  ack: { level: AckLevel; duplicate?: boolean };
  receipt: undefined;
  presence: { count: number; members: Member[]; stale: boolean };
  joined: Member & { count: number };
  left: { user: string; count: number };
  error: { code: Open<ErrorCode>; message: string; retryable: boolean; retry_after_ms?: number };
  refreshed: { expires_in_ms?: number } | undefined;
  pong: undefined;
  position: undefined;
  gap: Gap;
  degraded: { degraded: boolean };
  reconnect: { after_ms: number };
  notice: Notice;
  bye: { code: number; reason: string; reconnect: boolean };
}

/** A word to this connection, apart from all channels. */
export interface Notice {
  event: string;
  payload: unknown;
}

export type ControlType = (typeof GATEWAY_TYPES)[number];
export type ControlFrame<T extends ControlType = ControlType> = {
  [K in T]: {
    type: K;
    channel?: string;
    payload: Payloads[K];
    correlation_id?: string | null;
    position?: Position;
    timestamp?: undefined;
  };
}[T];
export type ServerFrame = Message | ControlFrame;

/** What a client sends. The gateway refuses unknown fields. */
export interface ClientFrame {
  type: (typeof CLIENT_TYPES)[number];
  channel?: string;
  event?: string;
  payload?: unknown;
  timestamp?: string;
  id?: string;
  correlation_id?: string;
  position?: Position | null;
}

/** A channel or pattern to subscribe to, from after a position or from now on. */
export interface Resume {
  channel: string;
  position: Position | null;
}

/** Whether a frame of the gateway is a message. Its type alone does not show this. */
export function isMessage(frame: ServerFrame): frame is Message {
  return frame.timestamp !== undefined;
}
