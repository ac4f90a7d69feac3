// Publishes messages in their order, and keeps them while the connection is away.
import type { Off } from "./emitter.js";
import type { Environment } from "./environment.js";
import { ClosedError } from "./error.js";
import type { ClientFrame, ControlFrame, Welcome } from "./frame.js";
import { PublishQueue, type Ack, type QueuedMessage } from "./publish_queue.js";
import { Rate } from "./rate.js";

/** Keeps the queue where it survives the page: see `@tidegate/client/store`. */
export interface QueueStore {
  load(): QueuedMessage[] | Promise<QueuedMessage[]>;
  save(messages: QueuedMessage[]): void;
}

/** A message of an earlier page, which nobody waits for, and what became of it. */
export type Settled = { id: string; ack: Ack } | { id: string; error: Error };

export interface PublisherEvents {
  /** Whether messages can be sent now. */
  canPublish(): boolean;
  send(frame: ClientFrame): boolean;
  settled(outcome: Settled): void;
}

export class Publisher {
  readonly #queue = new PublishQueue();
  readonly #rate = new Rate();
  readonly #environment: Environment;
  readonly #events: PublisherEvents;
  #store: QueueStore | undefined;
  #isSaving = false;
  #cancel: Off = () => {};

  constructor(environment: Environment, events: PublisherEvents, store?: QueueStore) {
    this.#environment = environment;
    this.#events = events;
    this.#store = store;
    if (store) void this.#load(store);
  }

  async publish(message: QueuedMessage, signal?: AbortSignal): Promise<Ack> {
    signal?.throwIfAborted();
    const answer = this.#queue.add(message);
    const abort = () => this.#change(() => this.#queue.cancel(message.id, signal?.reason));
    signal?.addEventListener("abort", abort);
    this.#pump();
    return answer.finally(() => signal?.removeEventListener("abort", abort));
  }

  /** A session is open. */
  opened(session: Welcome): void {
    this.#rate.reset(session.messages_per_second, this.#environment.now());
    this.#queue.limit(session.message_bytes_max);
    this.#pump();
  }

  /** Whether the frame answers a message. */
  answered(frame: ControlFrame<"ack" | "error">): boolean {
    const isAnswer = this.#queue.answered(frame, this.#environment.now());
    if (isAnswer) this.#pump();
    return isAnswer;
  }

  lost(): void {
    this.#change(() => this.#queue.lost());
  }

  /** What was never sent stays in the store, and goes on with the next page. */
  close(): void {
    this.#cancel();
    this.#store?.save(this.#stored());
    this.#store = undefined;
    this.#queue.clear(new ClosedError());
  }

  async #load(store: QueueStore): Promise<void> {
    const elapsed = this.#environment.now() - this.#environment.date();
    for (const message of await store.load()) {
      const { id, uncertainSince } = message;
      const since = uncertainSince === null ? null : uncertainSince + elapsed;
      this.#queue.add({ ...message, uncertainSince: since }).then(
        (ack) => this.#events.settled({ id, ack }),
        (error) => this.#events.settled({ id, error }),
      );
    }
    this.#pump();
  }

  #change(run: () => void): void {
    run();
    this.#pump();
  }

  #pump(): void {
    const now = this.#environment.now();
    this.#queue.expire(now);
    if (this.#events.canPublish()) {
      const frames = this.#queue.take(now, this.#rate.available(now));
      this.#rate.spend(frames.length);
      for (const frame of frames) this.#events.send(frame);
    }
    this.#save();
    this.#cancel();
    const isLimited = this.#events.canPublish() && this.#queue.hasUnsent;
    const wake = Math.min(this.#queue.wake(now) - now, (isLimited && this.#rate.wait(now)) || Infinity);
    if (wake !== Infinity) this.#cancel = this.#environment.timer(wake, () => this.#pump());
  }

  /** Once for all changes of one go. */
  #save(): void {
    if (!this.#store || this.#isSaving) return;
    this.#isSaving = true;
    queueMicrotask(() => {
      this.#isSaving = false;
      this.#store?.save(this.#stored());
    });
  }

  #stored(): QueuedMessage[] {
    const elapsed = this.#environment.date() - this.#environment.now();
    const toDate = (time: number | null) => (time === null ? null : time + elapsed);
    return this.#queue.stored().map((message) => ({ ...message, uncertainSince: toDate(message.uncertainSince) }));
  }
}
