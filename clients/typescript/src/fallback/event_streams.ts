// The transports `sse`: frames as server-sent events. They carry messages to the client, and none from it.
import { bytesOf } from "../codec.js";
import type { Off } from "../emitter.js";
import type { Environment } from "../environment.js";
import { isMessage, type ClientFrame, type ControlFrame, type ServerFrame } from "../frame.js";
import type { Position } from "../position.js";
import { CHANNELS_PER_CONNECTION_MAX, CLOSE_REVOKED, CLOSE_TOKEN_EXPIRED, CLOSE_UNAUTHENTICATED, CLOSE_WRONG_ORIGIN, CLOSE_WRONG_TENANT } from "../protocol.js";
import { endpoint, type Link, type LinkEvents, type OpenRequest, type Transport } from "../transport.js";
import { openByEventSource, openByFetch, type EventSourceConstructor, type OpenStream, type StreamRefusal } from "./stream.js";

const NAME = "sse";
/** The channels of a stream, and their positions, must fit into an id. */
const ID_BYTES_MAX = 4_064;
const POSITION_BYTES = 43;
/** A browser opens six connections to one host, for all its tabs. */
const STREAMS_MAX = 4;
/** The gateway sends something in each ping interval; this many may pass. */
const SILENT_INTERVALS = 2.5;
/** What the same request would be answered again. */
const FINAL: Record<string, number> = {
  unauthenticated: CLOSE_UNAUTHENTICATED,
  token_expired: CLOSE_TOKEN_EXPIRED,
  revoked: CLOSE_REVOKED,
  wrong_identity: CLOSE_WRONG_TENANT,
  wrong_origin: CLOSE_WRONG_ORIGIN,
};

/** Some channels that one stream carries. */
interface Group {
  channels: Set<string>;
  cursor: string | null;
}

export interface EventStreamOptions {
  fetch?: typeof fetch;
  /** Whether cookies are sent: `include` for a gateway of another origin. */
  credentials?: RequestCredentials;
}

/** Event streams by `fetch`. A client needs a transport of its own. */
export function eventStream(options: EventStreamOptions = {}): Transport {
  return transport(openByFetch(options), true);
}

/** Event streams by EventSource, for a page whose token is in a cookie. A client needs a transport of its own. */
export function eventSource(constructor?: EventSourceConstructor): Transport {
  return transport(openByEventSource(constructor), false);
}

function transport(openStream: OpenStream, showsComments: boolean): Transport {
  /** What to resume from, by the last connection. */
  let groups: Group[] = [];
  return {
    name: NAME,
    open(request, events, environment) {
      // Another transport has gone on since: the ids are older than the positions.
      if (request.previous !== NAME) groups = [];
      const link = new EventStreamsLink(openStream, showsComments, groups, request, events, environment);
      ({ groups } = link);
      return link;
    },
  };
}

class EventStreamsLink implements Link {
  readonly transport = NAME;
  readonly liveness = "own";
  readonly canPublish = false;
  groups: Group[];
  readonly #openStream: OpenStream;
  readonly #showsComments: boolean;
  readonly #request: OpenRequest;
  readonly #events: LinkEvents;
  readonly #environment: Environment;
  readonly #presence: Set<string>;
  /** The ids under which the client asked for its channels. */
  readonly #asked = new Map<string, string | undefined>();
  /** The positions that the client has, of channels that a stream begins anew. */
  readonly #held = new Map<string, Position>();
  #streams = new Map<Group, () => void>();
  /** Channels that were added in one go. */
  #added: string[] = [];
  #isWelcome = false;
  #isOpen = true;
  #wait: number | undefined;

  constructor(openStream: OpenStream, showsComments: boolean, groups: Group[], request: OpenRequest, events: LinkEvents, environment: Environment) {
    this.#openStream = openStream;
    this.#showsComments = showsComments;
    this.#request = request;
    this.#events = events;
    this.#environment = environment;
    this.#presence = new Set(request.presence);
    for (const { channel } of request.channels) this.#asked.set(channel, request.correlationId);
    const wanted = new Map(request.channels.map(({ channel, position }) => [channel, position]));
    this.groups = groups.filter(({ cursor, channels }) => cursor !== null && [...channels].some((channel) => wanted.has(channel)));
    for (const group of this.groups) group.channels.forEach((channel) => wanted.delete(channel));
    for (const [channel, position] of wanted) if (position !== null) this.#held.set(channel, position);
    this.groups.push(...grouped([...wanted.keys()]));
    for (const group of [...this.groups]) this.#begin(group);
    if (this.groups.length === 0) queueMicrotask(() => this.#end(1006, "an event stream needs a subscription"));
  }

  send(frame: ClientFrame): boolean {
    const { type, channel = "" } = frame;
    if (type === "subscribe") {
      this.#asked.set(channel, frame.correlation_id);
      this.#add(channel, frame.position ?? null);
    } else if (type === "unsubscribe") this.#remove(channel);
    else if (type === "presence") this.#watch(channel);
    else return false;
    return true;
  }

  close(): void {
    this.#isOpen = false;
    for (const close of this.#streams.values()) close();
    this.#streams.clear();
  }

  #add(channel: string, position: Position | null): void {
    if (position !== null) this.#held.set(channel, position);
    this.#added.push(channel);
    if (this.#added.length > 1) return;
    queueMicrotask(() => {
      const groups = grouped(this.#added.splice(0));
      if (!this.#isOpen) return;
      this.groups.push(...groups);
      if (this.groups.length > STREAMS_MAX) {
        // All channels together, from now on.
        this.groups.length = 0;
        return this.#end(1012, "too many event streams", 0);
      }
      for (const group of groups) this.#begin(group);
    });
  }

  #remove(channel: string): void {
    for (const group of this.groups.filter(({ channels }) => channels.delete(channel) && channels.size === 0)) {
      this.#stop(group);
      this.groups.splice(this.groups.indexOf(group), 1);
    }
  }

  #watch(channel: string): void {
    this.#presence.add(channel);
    const group = this.#groupOf(channel);
    if (!group || group.cursor === null) return;
    this.#stop(group);
    this.#begin(group);
  }

  /** The stream that has a channel of the same scope. */
  #groupOf(channel: string): Group | undefined {
    const scope = channel.split(":", 2).join(":");
    return this.groups.find(({ channels }) => [...channels].some((name) => `${name}:`.startsWith(`${scope}:`)));
  }

  #stop(group: Group): void {
    this.#streams.get(group)?.();
    this.#streams.delete(group);
  }

  #begin(group: Group): void {
    const address = endpoint(this.#request.url, "sse");
    address.searchParams.set("channels", [...group.channels].join(","));
    const presence = [...this.#presence].filter((channel) => this.#groupOf(channel) === group);
    if (presence.length > 0) address.searchParams.set("presence", presence.join(","));
    const { token } = this.#request;
    let [isMine, silence] = [true, Infinity];
    let cancel: Off = () => {};
    const watch = () => {
      cancel();
      if (isMine && silence !== Infinity) cancel = this.#environment.timer(silence, () => this.#end(1006, "nothing came for too long"));
    };
    const close = this.#openStream(
      { address, token, cursor: group.cursor },
      {
        alive: watch,
        event: ({ data, id, retry }) => {
          if (!isMine) return;
          if (retry !== null) this.#wait = retry;
          const frame = data === "" ? null : parse(data);
          if (frame?.type === "welcome" && !isMessage(frame) && this.#showsComments) {
            silence = frame.payload.ping_interval_ms * SILENT_INTERVALS;
            watch();
          }
          if (frame) this.#frame(frame);
          // After the frame was dealt with.
          if (id !== null) group.cursor = id;
        },
        refused: (refusal) => isMine && this.#refused(group, refusal),
        ended: ({ code, reason, error }) => isMine && this.#end(code, reason, this.#wait, error),
      },
    );
    this.#streams.set(group, () => {
      isMine = false;
      cancel();
      close();
    });
  }

  #frame(frame: ServerFrame): void {
    if (isMessage(frame)) return this.#events.frame(frame);
    if (frame.type === "welcome") {
      if (this.#isWelcome) return this.#events.alive();
      this.#isWelcome = true;
    }
    if (frame.type === "subscribed" && frame.position !== undefined) this.#subscribed(frame);
    else this.#events.frame(frame);
  }

  /** A stream begins now. It cannot continue after a position that another transport has reached. */
  #subscribed(frame: ControlFrame<"subscribed">): void {
    const held = this.#held.get(frame.channel!);
    this.#held.delete(frame.channel!);
    if (held === undefined || frame.payload.resumed) return this.#events.frame(frame);
    const resumed = held === frame.position;
    this.#events.frame({ ...frame, payload: { ...frame.payload, resumed } });
    if (resumed) return;
    const gap = { after: held, upto: frame.position!, reason: "transport", certain: false };
    this.#events.frame({ type: "gap", channel: frame.channel!, payload: gap });
  }

  #refused(group: Group, { status, code, message }: StreamRefusal): void {
    this.#stop(group);
    if (group.cursor !== null) {
      // The token may grant less, or be another user's: begin anew.
      group.cursor = null;
      for (const { channel, position } of this.#request.channels) {
        if (position !== null && group.channels.has(channel)) this.#held.set(channel, position);
      }
      return this.#begin(group);
    }
    const final = FINAL[code];
    if (final !== undefined) return this.#end(final, message, undefined, Object.assign(new Error(message), { code }));
    if (status === 404 || status === 405) return this.#end(1006, `HTTP ${status}: ${message}`);
    // One channel is refused, and with it the stream. The sentence names it; if not, none of them can be had.
    const named = [...group.channels].filter((channel) => message.includes(JSON.stringify(channel)));
    for (const channel of named.length > 0 ? named : [...group.channels]) {
      group.channels.delete(channel);
      this.#events.frame({ type: "error", channel, payload: { code, message, retryable: false }, correlation_id: this.#asked.get(channel) });
    }
    if (group.channels.size > 0) return this.#begin(group);
    this.groups.splice(this.groups.indexOf(group), 1);
    if (this.groups.length === 0) this.#end(1006, "every subscription was refused");
  }

  #end(code: number, reason: string, wait?: number, error?: Error): void {
    if (!this.#isOpen) return;
    this.close();
    this.#events.closed({ code, reason, ...(wait !== undefined && { wait }), ...(error && { error }) });
  }
}

/** As few streams as their ids have room for. */
function grouped(channels: string[]): Group[] {
  const groups: Group[] = [];
  let left = 0;
  for (const channel of channels) {
    left -= new TextEncoder().encode(channel).length + POSITION_BYTES;
    const last = groups.at(-1);
    if (last && left >= 0 && last.channels.size < CHANNELS_PER_CONNECTION_MAX) last.channels.add(channel);
    else {
      groups.push({ channels: new Set([channel]), cursor: null });
      left = ID_BYTES_MAX - new TextEncoder().encode(channel).length - POSITION_BYTES;
    }
  }
  return groups;
}

/** A frame. The bytes of a binary message are its `payload_base64`. */
function parse(data: string): ServerFrame {
  const { payload_base64: base64, ...frame } = JSON.parse(data);
  if (base64 === undefined) return frame;
  return { ...frame, payload: bytesOf(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))) };
}
