// The client: what an application uses.
import { Connection } from "./connection.js";
import { Emitter, type Off } from "./emitter.js";
import { systemEnvironment, type Environment } from "./environment.js";
import { ClosedError, type TidegateError } from "./error.js";
import { isMessage, type ClientFrame, type ControlFrame, type Message, type Notice, type ServerFrame } from "./frame.js";
import { isPosition, type Position } from "./position.js";
import { CHANNEL_BYTES_MAX, CLOSE_NORMAL } from "./protocol.js";
import type { Ack } from "./publish_queue.js";
import { Publisher, type QueueStore, type Settled } from "./publisher.js";
import { refusal } from "./refusal.js";
import type { ConnectionState } from "./state.js";
import { Subscription } from "./subscription.js";
import { Subscriptions } from "./subscriptions.js";
import { TokenKeeper, type TokenSource } from "./token.js";
import { endpoint, type Transport } from "./transport.js";
import { websocket } from "./websocket.js";

export interface ConnectOptions {
  /** The token, or what fetches one: it is called before the first connection and before the token expires. */
  token: TokenSource;
  /** What carries the frames: a WebSocket unless given. */
  transport?: Transport;
  /** Where messages that are not published yet survive the page. */
  queue?: QueueStore;
  /** The machine, for tests. */
  environment?: Environment;
}

export interface PublishOptions<T extends string = string> {
  /** The type that receivers see; `message` unless given. */
  event?: T;
  /** Under one id a message is stored once, however often it is published. Drawn at random unless given. */
  id?: string;
  /** Receivers see it. */
  correlationId?: string;
  /** RFC 3339; the time of storing unless given. */
  timestamp?: string;
  /** Publish it also when it may have been published before, longer ago than ids are known: it may come twice. */
  allowTwice?: boolean;
  /** Takes the message back, unless it was sent already: then the promise is rejected with `unknown_outcome`. */
  signal?: AbortSignal;
}

export interface ClientEvents extends Record<string, unknown[]> {
  state: [ConnectionState];
  /** A word of a backend or an operator to this user. */
  notice: [Notice];
  /** What nobody else is told: a failure of a listener, or a refusal without a frame that it answers. */
  error: [unknown];
  /** What became of a message that an earlier page had left in the queue. */
  settled: [Settled];
  /** Every control frame, for extensions. */
  frame: [ControlFrame];
}

/** A request of an extension that waits for its answer. */
interface Waiting {
  resolve(frame: ControlFrame): void;
  reject(error: TidegateError): void;
}

/** An application's connection to a gateway. `M` names the types of its messages, and their payloads. */
export class Client<M extends object = Record<string, unknown>> {
  readonly #emitter = new Emitter<ClientEvents>();
  /** The machine that the client runs on, for extensions. */
  readonly environment: Environment;
  readonly #connection: Connection;
  readonly #subscriptions: Subscriptions;
  readonly #publisher: Publisher;
  readonly #waiting = new Map<string, Waiting>();
  /** Channels in whose scopes the client asks who is there, and how many extensions want it. */
  readonly #presence = new Map<string, number>();

  /** Use `connect`. */
  constructor(url: string, options: ConnectOptions) {
    endpoint(url, "ws"); // an address that is none is refused here, and not at every attempt
    const environment = (this.environment = options.environment ?? systemEnvironment());
    const tokens = new TokenKeeper(options.token, environment);
    this.#connection = new Connection(url, options.transport ?? websocket(), tokens, environment, {
      state: (state) => this.#changed(state),
      frame: (frame) => this.#received(frame),
      wanted: () => {
        const correlationId = environment.id();
        return { channels: this.#subscriptions.wanted(correlationId), presence: [...this.#presence.keys()], correlationId };
      },
    });
    this.#subscriptions = new Subscriptions(environment, {
      send: (frame) => this.#connection.send(frame),
      isOpen: () => this.#connection.link !== null,
      restart: (message) => this.#connection.restart(message),
    });
    const publisher = {
      canPublish: () => this.#connection.link?.canPublish ?? false,
      send: (frame: ClientFrame) => this.#connection.send(frame),
      settled: (outcome: Settled) => this.#emit("settled", outcome),
    };
    this.#publisher = new Publisher(environment, publisher, options.queue);
    this.#connection.open();
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  on<E extends keyof ClientEvents & string>(event: E, listener: (...args: ClientEvents[E]) => unknown): Off {
    return this.#emitter.on(event, listener);
  }

  /**
   * Calls `onMessage` for each message of a channel or pattern, in order, each once.
   * It begins after `position` if there is one, and now otherwise.
   */
  subscribe(channel: string, onMessage: (message: Message<M>) => unknown, options: { position?: Position | null } = {}): Subscription<M> {
    const { position = null } = options;
    if (position !== null && !isPosition(position)) throw new TypeError(`not a position: ${position}`);
    if (new TextEncoder().encode(channel).length > CHANNEL_BYTES_MAX) throw new RangeError("the channel is too long");
    const leave = (subscription: Subscription<M>) => this.#subscriptions.remove(subscription);
    const subscription = new Subscription<M>(channel, position, onMessage, leave, (failure) => this.#report(failure));
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /**
   * Publishes a message. It waits while there is no connection, and is sent again under its id when a connection ends
   * before the answer. Resolves with what is true of the message; rejects if it was refused, or if nobody knows.
   */
  async publish<T extends keyof M & string>(
    channel: string,
    payload: M[T],
    ...[options]: "message" extends keyof M ? [PublishOptions<T>?] : [PublishOptions<T> & { event: T }]
  ): Promise<Ack> {
    const { event, timestamp, signal, allowTwice = false, id = this.environment.id() } = options ?? {};
    if (this.state.name === "closed") throw new ClosedError();
    const correlationId = options?.correlationId ?? this.environment.id();
    const message = { id, channel, event, payload, timestamp, correlationId, uncertainSince: null, allowTwice };
    return this.#publisher.publish(message, signal);
  }

  /** Connects again after the state `closed`, for instance because there is a token that may be accepted. */
  connect(): void {
    this.#connection.open();
  }

  /** Ends the connection. Messages that have no answer are rejected. */
  close(): void {
    if (this.state.name !== "closed") this.#connection.close({ code: CLOSE_NORMAL, message: "closed by the application" });
    this.#publisher.close();
  }

  /** For extensions: sends a frame and waits for its answer. Rejects if the connection ends before. */
  request(frame: ClientFrame): Promise<ControlFrame> {
    const id = this.environment.id();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      if (this.#connection.send({ ...frame, correlation_id: id })) return;
      this.#waiting.delete(id);
      reject(new ClosedError("there is no connection that can carry this"));
    });
  }

  /** For extensions: asks on each connection who is in the scope of the channel. */
  watchPresence(channel: string): Off {
    const count = (change: number) => (this.#presence.get(channel) ?? 0) + change;
    this.#presence.set(channel, count(1));
    if (count(0) === 1) this.#connection.send({ type: "presence", channel, correlation_id: this.environment.id() });
    return () => void (count(-1) > 0 ? this.#presence.set(channel, count(-1)) : this.#presence.delete(channel));
  }

  #changed(state: ConnectionState): void {
    if (state.name === "waiting" || state.name === "closed") {
      this.#subscriptions.lost();
      this.#publisher.lost();
      const waiting = [...this.#waiting.values()];
      this.#waiting.clear();
      for (const { reject } of waiting) reject(new ClosedError("the connection ended before the answer"));
    }
    this.#emit("state", state);
  }

  #received(frame: ServerFrame): void {
    if (isMessage(frame)) return this.#subscriptions.message(frame);
    this.#control(frame);
    this.#emit("frame", frame);
  }

  #control(frame: ControlFrame): void {
    switch (frame.type) {
      case "welcome":
        this.#subscriptions.opened();
        return this.#publisher.opened(frame.payload);
      case "subscribed":
        return this.#subscriptions.subscribed(frame);
      case "gap":
        return this.#subscriptions.gap(frame);
      case "position":
        return this.#subscriptions.position(frame);
      case "ack":
        return void this.#publisher.answered(frame);
      case "notice":
        return this.#emit("notice", frame.payload);
    }
    const waiting = this.#waiting.get(frame.correlation_id ?? "");
    if (waiting) {
      this.#waiting.delete(frame.correlation_id!);
      if (frame.type === "error") waiting.reject(refusal(frame));
      else waiting.resolve(frame);
    } else if (frame.type === "error" && !this.#publisher.answered(frame)) {
      // What is about the connection itself is the reason in its next state.
      if (frame.channel !== undefined && !this.#subscriptions.refused(frame)) this.#report(refusal(frame));
    }
  }

  #emit<E extends keyof ClientEvents & string>(event: E, ...args: ClientEvents[E]): void {
    const failures = this.#emitter.emit(event, ...args);
    if (event !== "error") failures.forEach((failure) => this.#report(failure));
  }

  #report(failure: unknown): void {
    if (this.#emitter.has("error")) this.#emit("error", failure);
    else console.error(failure);
  }
}

/** Connects to a gateway, and keeps connecting until `close` is called or the gateway refuses it for good. */
export function connect<M extends object = Record<string, unknown>>(url: string, options: ConnectOptions): Client<M> {
  return new Client<M>(url, options);
}
