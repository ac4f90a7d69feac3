// The codes, types and limits of the protocol. Generated from crates/wire by
// `TIDEGATE_WRITE=1 cargo test -p wire --test contract typescript`: do not edit.
import { refusalClass, type RefusalClass } from "./error.js";

/** The types of frames that a client sends. */
export const CLIENT_TYPES = [
  "hello",
  "subscribe",
  "unsubscribe",
  "publish",
  "receipt",
  "presence",
  "refresh",
  "ping",
  "pong",
] as const;

/** The types of control frames that the gateway sends. */
export const GATEWAY_TYPES = [
  "welcome",
  "restored",
  "subscribed",
  "unsubscribed",
  "ack",
  "receipt",
  "presence",
  "joined",
  "left",
  "error",
  "refreshed",
  "pong",
  "position",
  "gap",
  "degraded",
  "reconnect",
  "notice",
  "bye",
] as const;

/** What is true of an acknowledged message. */
export const ACK_LEVELS = [
  "replicated",
  "durable",
  "published",
  "local",
] as const;

/** Why messages may be missing. */
export const GAP_REASONS = [
  "expired",
  "failover",
  "unknown_position",
  "no_history",
  "unreadable",
  "isolated",
  "slow",
] as const;

/** Close code: bye. */
export const CLOSE_NORMAL = 1000;
/** Close code: protocol error. */
export const CLOSE_PROTOCOL_ERROR = 1002;
/** Close code: text is not UTF-8. */
export const CLOSE_INVALID_UTF8 = 1007;
/** Close code: message too big. */
export const CLOSE_TOO_BIG = 1009;
/** Close code: internal error. */
export const CLOSE_INTERNAL = 1011;
/** Close code: instance is going away. */
export const CLOSE_RESTART = 1012;
/** Close code: try again later. */
export const CLOSE_TRY_AGAIN_LATER = 1013;
/** Close code: reading too slowly. */
export const CLOSE_SLOW_CONSUMER = 4000;
/** Close code: no answer to ping. */
export const CLOSE_PING_TIMEOUT = 4001;
/** Close code: token expired. */
export const CLOSE_TOKEN_EXPIRED = 4002;
/** Close code: no token in time. */
export const CLOSE_HELLO_TIMEOUT = 4003;
/** Close code: too many messages. */
export const CLOSE_RATE_LIMITED = 4004;
/** Close code: too many connections. */
export const CLOSE_TOO_MANY_CONNECTIONS = 4005;
/** Close code: token missing or not valid. */
export const CLOSE_UNAUTHENTICATED = 4500;
/** Close code: token is for another tenant. */
export const CLOSE_WRONG_TENANT = 4501;
/** Close code: origin not allowed. */
export const CLOSE_WRONG_ORIGIN = 4502;
/** Close code: speak tidegate.v1. */
export const CLOSE_WRONG_SUBPROTOCOL = 4503;
/** Close code: connected elsewhere. */
export const CLOSE_REPLACED = 4504;
/** Close code: disconnected by an operator. */
export const CLOSE_KICKED = 4505;
/** Close code: revoked. */
export const CLOSE_REVOKED = 4506;

/** The close codes after which a client comes back: first and last of each range. */
export const RECONNECT_RANGES: readonly (readonly [number, number])[] = [[1001, 1001], [1005, 1006], [1011, 1013], [4000, 4499]];

/** The codes of `error` frames. */
export const ERROR_CODES = [
  "malformed",
  "unknown_type",
  "invalid_field",
  "invalid_channel",
  "invalid_position",
  "unauthenticated",
  "token_expired",
  "revoked",
  "wrong_identity",
  "wrong_origin",
  "forbidden",
  "too_big",
  "rate_limited",
  "too_many_channels",
  "too_many_connections",
  "already_subscribed",
  "not_subscribed",
  "unavailable",
  "unknown",
  "internal",
] as const;

/** `malformed`: is not retryable. */
export const MalformedError: RefusalClass<"malformed"> = /* @__PURE__ */ refusalClass("malformed");
/** `unknown_type`: is not retryable. */
export const UnknownTypeError: RefusalClass<"unknown_type"> = /* @__PURE__ */ refusalClass("unknown_type");
/** `invalid_field`: is not retryable. */
export const InvalidFieldError: RefusalClass<"invalid_field"> = /* @__PURE__ */ refusalClass("invalid_field");
/** `invalid_channel`: is not retryable. */
export const InvalidChannelError: RefusalClass<"invalid_channel"> = /* @__PURE__ */ refusalClass("invalid_channel");
/** `invalid_position`: is not retryable. */
export const InvalidPositionError: RefusalClass<"invalid_position"> = /* @__PURE__ */ refusalClass("invalid_position");
/** `unauthenticated`: is not retryable. */
export const UnauthenticatedError: RefusalClass<"unauthenticated"> = /* @__PURE__ */ refusalClass("unauthenticated");
/** `token_expired`: is not retryable. */
export const TokenExpiredError: RefusalClass<"token_expired"> = /* @__PURE__ */ refusalClass("token_expired");
/** `revoked`: is not retryable. */
export const RevokedError: RefusalClass<"revoked"> = /* @__PURE__ */ refusalClass("revoked");
/** `wrong_identity`: is not retryable. */
export const WrongIdentityError: RefusalClass<"wrong_identity"> = /* @__PURE__ */ refusalClass("wrong_identity");
/** `wrong_origin`: is not retryable. */
export const WrongOriginError: RefusalClass<"wrong_origin"> = /* @__PURE__ */ refusalClass("wrong_origin");
/** `forbidden`: is not retryable. */
export const ForbiddenError: RefusalClass<"forbidden"> = /* @__PURE__ */ refusalClass("forbidden");
/** `too_big`: is not retryable. */
export const TooBigError: RefusalClass<"too_big"> = /* @__PURE__ */ refusalClass("too_big");
/** `rate_limited`: is retryable. */
export const RateLimitedError: RefusalClass<"rate_limited"> = /* @__PURE__ */ refusalClass("rate_limited");
/** `too_many_channels`: is not retryable. */
export const TooManyChannelsError: RefusalClass<"too_many_channels"> = /* @__PURE__ */ refusalClass("too_many_channels");
/** `too_many_connections`: is retryable. */
export const TooManyConnectionsError: RefusalClass<"too_many_connections"> = /* @__PURE__ */ refusalClass("too_many_connections");
/** `already_subscribed`: is not retryable. */
export const AlreadySubscribedError: RefusalClass<"already_subscribed"> = /* @__PURE__ */ refusalClass("already_subscribed");
/** `not_subscribed`: is not retryable. */
export const NotSubscribedError: RefusalClass<"not_subscribed"> = /* @__PURE__ */ refusalClass("not_subscribed");
/** `unavailable`: is retryable. */
export const UnavailableError: RefusalClass<"unavailable"> = /* @__PURE__ */ refusalClass("unavailable");
/** `unknown`: is retryable. */
export const UnknownError: RefusalClass<"unknown"> = /* @__PURE__ */ refusalClass("unknown");
/** `internal`: is retryable. */
export const InternalError: RefusalClass<"internal"> = /* @__PURE__ */ refusalClass("internal");

export const CHANNEL_BYTES_MAX = 256;
export const PUBLISH_ID_BYTES_MAX = 128;
export const CHANNELS_PER_CONNECTION_MAX = 256;
export const BINARY_HEADER_BYTES_MAX = 65535;
export const SUBPROTOCOL = "tidegate.v1";
