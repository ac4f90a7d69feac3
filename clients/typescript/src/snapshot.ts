// @tidegate/client/snapshot: a state that is loaded once, and then kept current by messages.
import { backoff } from "./backoff.js";
import type { Client } from "./client.js";
import { Emitter, type Off } from "./emitter.js";
import type { Gap, Message } from "./frame.js";
import { isNewer, isPosition, newest, type Position } from "./position.js";
import type { Subscription } from "./subscription.js";

/** A state, and the position of the last message that it has. */
export interface Snapshot<State> {
  state: State;
  position: Position;
}

export interface StateOptions<State, M extends object> {
  /** Loads the state from the backend. It is called at the start and after a gap, and again if it fails. */
  snapshot(signal: AbortSignal): Promise<Snapshot<State>>;
  /** Applies a message: it returns the new state, or changes the given one and returns nothing. */
  apply(state: State, message: Message<M>): State | void;
}

/** `loading`: there is no state yet. `stale`: messages are missing, and the state is loaded again. */
export type StateStatus = "loading" | "live" | "stale" | "closed";

export interface StateEvents extends Record<string, unknown[]> {
  /** The state or its status has changed. */
  change: [];
  /** The state could not be loaded, and is loaded again; or `apply` failed. */
  error: [unknown];
}

/** Messages that wait for a snapshot. With more, the snapshot is loaded again. */
const HELD_MAX = 10_000;

export class LiveState<State, M extends object = Record<string, unknown>> {
  readonly #client: Client<M>;
  readonly #channel: string;
  readonly #options: StateOptions<State, M>;
  readonly #emitter = new Emitter<StateEvents>();
  readonly #controller = new AbortController();
  #state: State | null = null;
  #status: StateStatus = "loading";
  /** Of the last message that the state has. */
  #position: Position | null = null;
  #subscription: Subscription<M> | null = null;
  #isLoading = false;
  /** A gap came while a snapshot was loaded. */
  #isOutdated = false;
  /** Where the subscription continues after the last gap. */
  #upto: Position | null = null;
  /** A snapshot of this position was too old to continue from. */
  #tooOld: Position | null = null;
  #held: Message<M>[] = [];
  #cancel: Off = () => {};

  /** Use `subscribeState`. */
  constructor(client: Client<M>, channel: string, options: StateOptions<State, M>) {
    this.#client = client;
    this.#channel = channel;
    this.#options = options;
    void this.#load();
  }

  /** Null until it is loaded. */
  get state(): State | null {
    return this.#state;
  }

  get status(): StateStatus {
    return this.#status;
  }

  on<E extends keyof StateEvents & string>(event: E, listener: (...args: StateEvents[E]) => unknown): Off {
    return this.#emitter.on(event, listener);
  }

  close(): void {
    this.#status = "closed";
    this.#controller.abort();
    this.#cancel();
    this.#subscription?.unsubscribe();
  }

  /** One load at a time, however many gaps come. */
  async #load(): Promise<void> {
    if (this.#isLoading) {
      this.#isOutdated = true;
      return;
    }
    this.#isLoading = true;
    let loaded: Snapshot<State> | null;
    do {
      this.#isOutdated = false;
      loaded = await this.#fetch();
      if (loaded === null) return;
    } while (this.#isOutdated && (this.#upto === null || isNewer(this.#upto, loaded.position)));
    this.#isLoading = false;
    this.#accept(loaded);
  }

  /** A snapshot, however many attempts it takes; null when nobody wants it any more. */
  async #fetch(): Promise<Snapshot<State> | null> {
    const { signal } = this.#controller;
    const { environment } = this.#client;
    for (let attempt = 1; ; attempt++) {
      try {
        const loaded = await this.#options.snapshot(signal);
        if (!isPosition(loaded.position)) throw new TypeError(`a snapshot needs its position: ${loaded.position}`);
        return signal.aborted ? null : loaded;
      } catch (error) {
        if (signal.aborted) return null;
        this.#emitter.emit("error", error);
        await new Promise<void>((resolve) => {
          this.#cancel = environment.timer(backoff(attempt, environment.random()), resolve);
        });
      }
    }
  }

  #accept({ state, position }: Snapshot<State>): void {
    [this.#state, this.#position, this.#status] = [state, position, "live"];
    const isOlder = this.#upto !== null && isNewer(this.#upto, position) && this.#tooOld !== position;
    const held = this.#held.splice(0);
    if (this.#subscription === null || isOlder) {
      // What follows the snapshot comes by a subscription from there. If that ends in a gap, there is nothing newer.
      if (isOlder) this.#tooOld = position;
      this.#subscription?.unsubscribe();
      this.#subscribe(position);
    } else {
      for (const message of held) this.#apply(message);
    }
    this.#emitter.emit("change");
  }

  #subscribe(position: Position): void {
    this.#subscription = this.#client.subscribe(this.#channel, (message) => this.#receive(message), { position });
    this.#subscription.on("gap", (gap) => this.#missing(gap));
    this.#subscription.on("error", (error) => this.#emitter.emit("error", error));
  }

  #missing({ upto }: Gap): void {
    this.#upto = upto;
    this.#held = [];
    this.#status = "stale";
    void this.#load();
    this.#emitter.emit("change");
  }

  #receive(message: Message<M>): void {
    if (!this.#isLoading) {
      if (this.#apply(message)) this.#emitter.emit("change");
    } else if (this.#held.push(message) > HELD_MAX) {
      this.#upto = newest(this.#upto, this.#held.at(-1)!.position ?? null);
      this.#held = [];
      this.#isOutdated = true;
    }
  }

  /** Whether the state did not have the message yet. */
  #apply(message: Message<M>): boolean {
    const { position = null } = message;
    if (position !== null && !isNewer(position, this.#position)) return false;
    try {
      this.#state = this.#options.apply(this.#state!, message) ?? this.#state;
    } catch (error) {
      this.#emitter.emit("error", error);
    }
    this.#position = newest(this.#position, position);
    return true;
  }
}

/** Loads a state, subscribes from its position, and loads it again whenever messages are missing. */
export function subscribeState<State, M extends object = Record<string, unknown>>(
  client: Client<M>,
  channel: string,
  options: StateOptions<State, M>,
): LiveState<State, M> {
  return new LiveState(client, channel, options);
}
