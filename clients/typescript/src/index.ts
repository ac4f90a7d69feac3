// @tidegate/client: subscribe, publish, and come back after every interruption.
export { Client, connect, type ClientEvents, type ConnectOptions, type PublishOptions } from "./client.js";
export { shouldReconnect } from "./close.js";
export type { Off } from "./emitter.js";
export type { Environment, Signal } from "./environment.js";
export { ClosedError, GatewayError, QueueFullError, TidegateError, UnknownOutcomeError } from "./error.js";
export type { AckLevel, ClientFrame, ControlFrame, ErrorCode, Gap, GapReason, Member, Message, Notice, ServerFrame, Welcome } from "./frame.js";
export { comparePositions, type Position } from "./position.js";
export * from "./protocol.js";
export type { Ack, QueuedMessage } from "./publish_queue.js";
export type { QueueStore, Settled } from "./publisher.js";
export type { ConnectionState, EndReason } from "./state.js";
export type { Subscribed, Subscription, SubscriptionEvents, SubscriptionState } from "./subscription.js";
export type { TokenSource } from "./token.js";
export type { Link, LinkEnd, LinkEvents, OpenRequest, Transport } from "./transport.js";
export { websocket, type Socket, type SocketConstructor } from "./websocket.js";
