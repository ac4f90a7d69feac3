// One subscription of the application to a channel or pattern.
import { Emitter, type Off } from "./emitter.js";
import type { TidegateError } from "./error.js";
import type { Gap, Message } from "./frame.js";
import { isNewer, isSameGeneration, newest, type Position } from "./position.js";

/** A subscription has begun. */
export interface Subscribed {
  /** Everything after the last position follows. Otherwise the subscription begins anew. */
  resumed: boolean;
  /** The gateway is without its broker: messages from elsewhere come later. */
  degraded: boolean;
  position: Position | null;
}

export interface SubscriptionEvents extends Record<string, unknown[]> {
  subscribed: [Subscribed];
  /** Messages are missing, or may be: load the state again if it is built from messages. */
  gap: [Gap];
  /** The gateway refused the subscription. */
  error: [TidegateError];
}

/** `failed`: the gateway refused it, and will refuse it again with this token. */
export type SubscriptionState = "pending" | "live" | "failed" | "ended";

export class Subscription<M extends object = Record<string, unknown>> {
  readonly channel: string;
  readonly #emitter = new Emitter<SubscriptionEvents>();
  readonly #onMessage: (message: Message<M>) => unknown;
  readonly #leave: (subscription: Subscription<M>) => void;
  readonly #report: (failure: unknown) => void;
  #state: SubscriptionState = "pending";
  #position: Position | null;
  /** It had begun, on this connection or an earlier one. */
  #hasBegun = false;

  /** Use `client.subscribe`. */
  constructor(
    channel: string,
    position: Position | null,
    onMessage: (message: Message<M>) => unknown,
    leave: (subscription: Subscription<M>) => void,
    report: (failure: unknown) => void,
  ) {
    this.channel = channel;
    this.#position = position;
    this.#onMessage = onMessage;
    this.#leave = leave;
    this.#report = report;
  }

  get state(): SubscriptionState {
    return this.#state;
  }

  /** The last position that was seen. The subscription continues after it when the connection comes back. */
  get position(): Position | null {
    return this.#position;
  }

  on<E extends keyof SubscriptionEvents & string>(event: E, listener: (...args: SubscriptionEvents[E]) => unknown): Off {
    return this.#emitter.on(event, listener);
  }

  unsubscribe(): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#leave(this);
  }

  /** @internal A message of its channel: handed on unless it was before. */
  deliver(message: Message<M>): void {
    if (this.#state === "ended") return;
    const { position } = message;
    if (position !== undefined) {
      if (!isNewer(position, this.#position)) return;
      this.#position = position;
    }
    try {
      const result = this.#onMessage(message) as Promise<unknown> | undefined;
      if (typeof result?.then === "function") result.then(undefined, this.#report);
    } catch (failure) {
      this.#report(failure);
    }
  }

  /** @internal It is to be asked for again. */
  paused(): void {
    if (this.#state !== "ended") this.#state = "pending";
  }

  /** @internal */
  begun({ resumed, degraded, position }: Subscribed): void {
    if (this.#state === "ended") return;
    // It had begun without a position, and begins again: what came between the two is not known.
    const isHole = this.#hasBegun && this.#state !== "live" && this.#position === null && !degraded && !resumed;
    this.#state = "live";
    this.#hasBegun = true;
    // Where it does not resume, a gap follows, and moves the position. If the connection ends between the two, the next
    // one resumes from the old position, and is told of the gap again.
    this.#position ??= position;
    this.#emit("subscribed", { resumed, degraded, position: this.#position });
    if (isHole) this.#emit("gap", { after: null, upto: position, reason: "unconfirmed", certain: false });
  }

  /** @internal `isShared`: other subscriptions have the same channel, and may be further behind. */
  missing(gap: Gap, isShared: boolean): void {
    const { upto } = gap;
    if (this.#state === "ended") return;
    if (upto !== null) {
      const isAhead = this.#position !== null && isNewer(this.#position, upto);
      // Of another generation: the history is another one, and goes on there however far this subscription has seen.
      if (isShared && isAhead && isSameGeneration(this.#position!, upto)) return;
      this.#position = upto;
    }
    this.#emit("gap", gap);
  }

  /** @internal Nothing more has come up to here. */
  reached(position: Position): void {
    this.#position = newest(this.#position, position);
  }

  /** @internal */
  failed(error: TidegateError): void {
    if (this.#state === "ended") return;
    this.#state = "failed";
    if (this.#emitter.has("error")) this.#emit("error", error);
    else this.#report(error);
  }

  #emit<E extends keyof SubscriptionEvents & string>(event: E, ...args: SubscriptionEvents[E]): void {
    this.#emitter.emit(event, ...args).forEach(this.#report);
  }
}
