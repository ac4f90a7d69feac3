// PURE. Messages that wait to be published, or for their acknowledgement. The time is passed to it.
import { bytesOf, encode } from "./codec.js";
import { GatewayError, QueueFullError, UnknownOutcomeError } from "./error.js";
import type { AckLevel, ClientFrame, ControlFrame } from "./frame.js";
import type { Position } from "./position.js";
import { refusal } from "./refusal.js";

/** What the gateway says of a published message. */
export interface Ack {
  id: string;
  /** `durable`, `replicated`, `published`, or `local`: see docs/protocol.md. */
  level: AckLevel;
  position: Position | null;
  /** It had been stored before under the same id. */
  duplicate: boolean;
}

/** A message in the queue, as it can be written down. */
export interface QueuedMessage {
  id: string;
  channel: string;
  event?: string;
  payload?: unknown;
  timestamp?: string;
  correlationId: string;
  /** The first moment, in milliseconds since 1970, at which it was sent and may have been stored. */
  uncertainSince: number | null;
  /** Publish it again also when its id may have been forgotten: it may then come twice. */
  allowTwice: boolean;
}

interface Entry extends QueuedMessage {
  bytes: number;
  /** When it was sent on the present connection. */
  sentAt: number | null;
  /** Not before this time. */
  after: number;
  resolve(ack: Ack): void;
  reject(error: Error): void;
}

/** A gateway knows an id for two minutes. */
const KNOWN_MS = 120_000;
/** The last attempt under an id comes this much earlier, because it takes time to arrive. */
const MARGIN_MS = 10_000;
/** Attempts after an answer that names no delay. */
const RETRY_MS = 1_000;
const ENTRIES_MAX = 1_000;
const BYTES_MAX = 4 * 1024 * 1024;

/** The scope of a channel, as far as a client can tell: messages of one scope keep their order. */
const scopeOf = (channel: string) => channel.split(":", 2).join(":");

export class PublishQueue {
  #entries: Entry[] = [];
  #bytes = 0;
  /** The largest message that the gateway takes. It would close the connection for a larger one. */
  #messageBytesMax = Infinity;
  /** Nothing is sent before: the gateway limits the rate. */
  #pausedUntil = 0;

  get hasUnsent(): boolean {
    return this.#entries.some(({ sentAt }) => sentAt === null);
  }

  /** Puts a message at the end. The promise is settled by the answer. */
  add(message: QueuedMessage): Promise<Ack> {
    // The application may change the payload meanwhile; under one id goes one message.
    const payload = bytesOf(message.payload)?.slice() ?? copy(message.payload);
    const data = encode(frameOf({ ...message, payload }));
    const bytes = typeof data === "string" ? new TextEncoder().encode(data).length : data.length;
    if (this.#entries.length >= ENTRIES_MAX || this.#bytes + bytes > BYTES_MAX) throw new QueueFullError();
    if (bytes > this.#messageBytesMax) throw this.#tooBig({ ...message, bytes });
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      this.#entries.push({ ...message, payload, bytes, sentAt: null, after: 0, resolve, reject });
    });
  }

  /** The frames to send now, at most `limit`; they count as sent. */
  take(now: number, limit: number): ClientFrame[] {
    if (now < this.#pausedUntil) return [];
    const frames: ClientFrame[] = [];
    const blocked = new Set<string>();
    const later = this.#inFlightLater();
    this.#entries.forEach((entry, at) => {
      const scope = scopeOf(entry.channel);
      if (entry.sentAt !== null || blocked.has(scope)) return;
      if (frames.length >= limit || now < entry.after || (later.get(scope) ?? -1) > at) {
        blocked.add(scope);
        return;
      }
      entry.sentAt = now;
      frames.push(frameOf(entry));
    });
    return frames;
  }

  /** For each scope the last message that has no answer yet: what was sent before is not sent again until then. */
  #inFlightLater(): Map<string, number> {
    const later = new Map<string, number>();
    this.#entries.forEach((entry, at) => entry.sentAt !== null && later.set(scopeOf(entry.channel), at));
    return later;
  }

  /** An answer to a publish. Returns whether it was one. */
  answered(frame: ControlFrame<"ack" | "error">, now: number): boolean {
    const entry = this.#entries.find((entry) => entry.sentAt !== null && entry.correlationId === frame.correlation_id);
    if (!entry) return false;
    if (frame.type === "ack") {
      const { level, duplicate = false } = frame.payload;
      this.#remove(entry).resolve({ id: entry.id, level, position: frame.position ?? null, duplicate });
      return true;
    }
    const { code, retryable, retry_after_ms = RETRY_MS } = frame.payload;
    // A fresh token is on its way, and nothing was stored.
    if (!retryable && code !== "token_expired") {
      this.#remove(entry).reject(refusal(frame));
      return true;
    }
    if (code === "unknown") entry.uncertainSince ??= entry.sentAt;
    if (code === "rate_limited") this.#pausedUntil = now + retry_after_ms;
    entry.sentAt = null;
    entry.after = now + retry_after_ms;
    return true;
  }

  /** The connection has ended: what has no answer may have been stored. */
  lost(): void {
    for (const entry of this.#entries) {
      if (entry.sentAt !== null) entry.uncertainSince ??= entry.sentAt;
      entry.sentAt = null;
    }
  }

  /** Gives up messages whose id the gateway may have forgotten. */
  expire(now: number): void {
    for (const entry of [...this.#entries]) {
      const since = entry.uncertainSince ?? entry.sentAt;
      const patience = entry.sentAt === null ? KNOWN_MS - MARGIN_MS : KNOWN_MS;
      if (since === null || now - since < patience || entry.allowTwice) continue;
      this.#remove(entry).reject(new UnknownOutcomeError(entry.id));
    }
  }

  /** Takes back one message. It may have been stored if it was sent. */
  cancel(id: string, reason: Error): void {
    const entry = this.#entries.find((entry) => entry.id === id);
    if (!entry) return;
    const mayBeStored = (entry.uncertainSince ?? entry.sentAt) !== null;
    this.#remove(entry).reject(mayBeStored ? new UnknownOutcomeError(id) : reason);
  }

  /** A session is open, on a gateway that takes messages of so many bytes. */
  limit(messageBytesMax: number): void {
    this.#messageBytesMax = messageBytesMax;
    for (const entry of [...this.#entries]) if (entry.bytes > messageBytesMax) this.#remove(entry).reject(this.#tooBig(entry));
  }

  #tooBig({ bytes, channel }: { bytes: number; channel: string }): GatewayError {
    const message = `the message has ${bytes} bytes, and the gateway takes ${this.#messageBytesMax}`;
    return new GatewayError("too_big", message, false, channel);
  }

  /** Takes back everything. */
  clear(reason: Error): void {
    for (const { id } of [...this.#entries]) this.cancel(id, reason);
  }

  /** When to call `take` and `expire` again, if nothing happens before. Infinity: not at all. */
  wake(now: number): number {
    let next = Infinity;
    for (const { sentAt, uncertainSince, after, allowTwice } of this.#entries) {
      const since = uncertainSince ?? sentAt;
      if (since !== null && !allowTwice) next = Math.min(next, since + KNOWN_MS - (sentAt === null ? MARGIN_MS : 0));
      if (sentAt === null && after > now) next = Math.min(next, after);
    }
    if (this.#pausedUntil > now) next = Math.min(next, this.#pausedUntil);
    return Math.max(next, now);
  }

  /** What to write down, so that it survives the page. */
  stored(): QueuedMessage[] {
    return this.#entries.map(({ id, channel, event, payload, timestamp, correlationId, uncertainSince, sentAt, allowTwice }) => ({
      id,
      channel,
      event,
      payload,
      timestamp,
      correlationId,
      uncertainSince: uncertainSince ?? sentAt,
      allowTwice,
    }));
  }

  #remove(entry: Entry): Entry {
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#bytes -= entry.bytes;
    return entry;
  }
}

const copy = (payload: unknown): unknown => (payload === undefined ? undefined : JSON.parse(JSON.stringify(payload)));

function frameOf({ id, channel, event, payload, timestamp, correlationId }: QueuedMessage): ClientFrame {
  return { type: "publish", channel, event, payload, timestamp, id, correlation_id: correlationId };
}
