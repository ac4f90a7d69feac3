// All subscriptions of a client, and what the gateway is asked for on their behalf: each channel once.
import { matches, overlap } from "./channel.js";
import type { Environment } from "./environment.js";
import type { ClientFrame, ControlFrame, Message, Resume } from "./frame.js";
import { isNewer, newest, type Position } from "./position.js";
import { CHANNELS_PER_CONNECTION_MAX } from "./protocol.js";
import { refusal } from "./refusal.js";
import type { Subscription } from "./subscription.js";

/** Before a refused subscription is tried again, if the gateway names no delay. */
const RETRY_MS = 1_000;

/** The id of every `unsubscribe`: nothing depends on the answers. */
const LEAVE = "unsubscribe";

type Handle = Subscription<any>;

/** A channel that the gateway knows, or will know, as subscribed. */
interface Channel {
  handles: Set<Handle>;
  /** The id under which it was asked for on this connection. Without handles it is left as soon as that is possible. */
  asked: string | null;
  isLive: boolean;
  isDegraded: boolean;
}

export interface SubscriptionsEvents {
  /** Sends a frame if the session is open. */
  send(frame: ClientFrame): boolean;
  isOpen(): boolean;
  /** Connects anew, and asks for everything in one hello. */
  restart(message: string): void;
}

export class Subscriptions {
  readonly #channels = new Map<string, Channel>();
  readonly #environment: Environment;
  readonly #events: SubscriptionsEvents;
  /** Goes up with each connection. */
  #connection = 0;

  constructor(environment: Environment, events: SubscriptionsEvents) {
    this.#environment = environment;
    this.#events = events;
  }

  add(handle: Handle): void {
    const channel = this.#channels.get(handle.channel) ?? { handles: new Set(), asked: null, isLive: false, isDegraded: false };
    this.#channels.set(handle.channel, channel);
    const seen = newestOf(channel.handles);
    channel.handles.add(handle);
    // Also while the connection is being opened: its hello was written already.
    if (this.#needsReplay(handle, channel, seen)) return this.#events.restart("a subscription from an earlier position");
    if (!this.#events.isOpen()) return;
    if (channel.asked === null) this.#ask(handle.channel, channel);
    else if (channel.isLive) {
      const { isDegraded } = channel;
      queueMicrotask(() => channel.isLive && handle.begun({ resumed: handle.position !== null, degraded: isDegraded, position: seen }));
    }
  }

  /**
   * Whether messages that this handle wants would come after newer ones of another subscription.
   * They come in order if all subscriptions are resumed together.
   */
  #needsReplay(handle: Handle, channel: Channel, seen: Position | null): boolean {
    if (handle.position === null) return false;
    if (channel.asked !== null) return seen === null || isNewer(seen, handle.position);
    return [...this.#channels].some(([name, { asked }]) => asked !== null && overlap(name, handle.channel));
  }

  remove(handle: Handle): void {
    const channel = this.#channels.get(handle.channel);
    if (!channel?.handles.delete(handle) || channel.handles.size > 0) return;
    // A page that is drawn anew unsubscribes and subscribes in one go.
    queueMicrotask(() => {
      const isWanted = channel.handles.size > 0 || this.#channels.get(handle.channel) !== channel;
      // A hello that names it is on its way: it is left when it begins.
      if (isWanted || (channel.asked !== null && !this.#events.isOpen())) return;
      this.#leave(handle.channel, channel);
    });
  }

  /** What to ask for on a new connection. */
  wanted(correlationId: string): Resume[] {
    this.#connection++;
    const resumes: Resume[] = [];
    for (const [name, channel] of this.#channels) {
      channel.asked = resumes.length < CHANNELS_PER_CONNECTION_MAX ? correlationId : null;
      if (channel.handles.size === 0) this.#channels.delete(name);
      else if (channel.asked !== null) resumes.push({ channel: name, position: oldestOf(channel.handles) });
    }
    return resumes;
  }

  /** The session is open: asks for what was added meanwhile. */
  opened(): void {
    for (const [name, channel] of this.#channels) {
      if (channel.asked === null && channel.handles.size > 0) this.#ask(name, channel);
    }
  }

  lost(): void {
    this.#connection++;
    for (const channel of this.#channels.values()) {
      channel.asked = null;
      channel.isLive = false;
      channel.handles.forEach((handle) => handle.paused());
    }
  }

  message(message: Message<any>): void {
    for (const [name, { handles, isLive }] of this.#channels) {
      if (!matches(name, message.channel)) continue;
      // Before `subscribed`, a message came through another subscription, unless this one resumes.
      for (const handle of [...handles]) if (isLive || handle.position !== null) handle.deliver(message);
    }
  }

  subscribed({ channel: name, payload, position }: ControlFrame<"subscribed">): void {
    const channel = this.#channels.get(name!);
    if (!channel?.handles.size) return this.#leave(name!, channel);
    channel.isLive = true;
    channel.isDegraded = payload.degraded;
    for (const handle of [...channel.handles]) {
      handle.begun({ resumed: payload.resumed && handle.position !== null, degraded: payload.degraded, position: position ?? null });
    }
  }

  gap({ channel: name, payload }: ControlFrame<"gap">): void {
    const handles = [...(this.#channels.get(name!)?.handles ?? [])];
    for (const handle of handles) handle.missing(payload, handles.length > 1);
  }

  position({ channel: name, position }: ControlFrame<"position">): void {
    if (position !== undefined) this.#channels.get(name!)?.handles.forEach((handle) => handle.reached(position));
  }

  /** An `error` about a channel. Returns whether it was about a subscription. */
  refused(frame: ControlFrame<"error">): boolean {
    const name = frame.channel!;
    const { code, retryable, retry_after_ms = RETRY_MS } = frame.payload;
    if (frame.correlation_id === LEAVE) return true;
    const channel = this.#channels.get(name);
    // A new token takes grants away: `forbidden` then answers no frame.
    const isAnswer = channel && (frame.correlation_id ? frame.correlation_id === channel.asked : code === "forbidden");
    if (!isAnswer) return false;
    if (code === "already_subscribed") return true;
    channel.isLive = false;
    channel.asked = null;
    // A fresh token is on its way.
    if (!retryable && code !== "token_expired") {
      channel.handles.forEach((handle) => handle.failed(refusal(frame)));
      return true;
    }
    const connection = this.#connection;
    channel.handles.forEach((handle) => handle.paused());
    this.#environment.timer(retry_after_ms * (1 + this.#environment.random()), () => {
      const isWanted = this.#channels.get(name) === channel && channel.handles.size > 0;
      if (isWanted && connection === this.#connection) this.#ask(name, channel);
    });
    return true;
  }

  #ask(name: string, channel: Channel): void {
    const correlation_id = (channel.asked = this.#environment.id());
    this.#events.send({ type: "subscribe", channel: name, position: oldestOf(channel.handles), correlation_id });
  }

  #leave(name: string, channel: Channel | undefined): void {
    this.#channels.delete(name);
    if (channel?.asked !== null) this.#events.send({ type: "unsubscribe", channel: name, correlation_id: LEAVE });
  }
}

const positionsOf = (handles: Set<Handle>) => [...handles].flatMap(({ position }) => position ?? []);

/** From where the messages of all of them follow. Who has no position yet begins where the others are. */
function oldestOf(handles: Set<Handle>): Position | null {
  return positionsOf(handles).reduce<Position | null>((a, b) => (isNewer(b, a) && a !== null ? a : b), null);
}

function newestOf(handles: Set<Handle>): Position | null {
  return positionsOf(handles).reduce<Position | null>(newest, null);
}
