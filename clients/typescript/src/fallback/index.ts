// @tidegate/client/fallback: transports for networks that block WebSockets.
export { eventSource, eventStream, type EventStreamOptions } from "./event_streams.js";
export { fallback, type FallbackOptions } from "./fallback.js";
export type { EventSourceConstructor, EventSourceLike } from "./stream.js";
