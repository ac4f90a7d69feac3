// A gateway of one scope, as docs/protocol.md describes it, with connections that are cut at any moment.
import { matches } from "../src/channel.js";
import type { ClientFrame, Resume, ServerFrame } from "../src/frame.js";
import { comparePositions, isNewer, type Position } from "../src/position.js";
import type { Link, LinkEvents, OpenRequest, Transport } from "../src/transport.js";
import { WELCOME } from "./scripted_transport.js";
import type { VirtualEnvironment } from "./virtual_environment.js";

interface Stored {
  position: Position;
  channel: string;
  payload: unknown;
}

/** Ids are known for this long after storing. */
const KNOWN_MS = 120_000;

export class ModelGateway implements Transport {
  readonly name = "model";
  readonly environment: VirtualEnvironment;
  /** What was ever stored. */
  readonly stored: Stored[] = [];
  /** What the history still has. */
  #history: Stored[] = [];
  /** The newest position that the history does not reach back to. */
  #trimmed: Position = "1-0";
  #generation = 1;
  #offset = 0;
  #ids = new Map<string, { position: Position; until: number }>();
  #links = new Set<ModelLink>();
  /** Whether new connections are accepted. */
  isUp = true;

  constructor(environment: VirtualEnvironment) {
    this.environment = environment;
  }

  get newest(): Position {
    return `${this.#generation}-${this.#offset}`;
  }

  open(request: OpenRequest, events: LinkEvents): Link {
    const link = new ModelLink(this, request, events);
    if (this.isUp) this.#links.add(link);
    else this.environment.timer(5, () => events.closed({ code: 1006, reason: "" }));
    return link;
  }

  publish(channel: string, payload: unknown, id?: string): { position: Position; duplicate: boolean } {
    const known = id === undefined ? undefined : this.#ids.get(id);
    if (known && known.until > this.environment.now()) return { position: known.position, duplicate: true };
    this.#offset++;
    const message = { position: this.newest, channel, payload };
    this.stored.push(message);
    this.#history.push(message);
    if (id !== undefined) this.#ids.set(id, { position: message.position, until: this.environment.now() + KNOWN_MS });
    for (const link of this.#links) link.message(message);
    return { position: message.position, duplicate: false };
  }

  /** The history forgets its oldest messages. */
  trim(count: number): void {
    for (const { position } of this.#history.splice(0, count)) this.#trimmed = position;
  }

  /** The history is lost: it begins anew, with another generation, which may be a smaller one. */
  fail(generation: number): void {
    this.#generation = generation;
    this.#offset = 0;
    this.#history = [];
    this.#trimmed = this.newest;
    for (const link of this.#links) link.failed();
  }

  /** What follows `position`, or null if it cannot be known. */
  after(position: Position): Stored[] | null {
    const [generation] = position.split("-");
    if (generation !== String(this.#generation) || comparePositions(position, this.#trimmed) < 0) return null;
    if (isNewer(position, this.newest)) return null;
    return this.#history.filter((message) => isNewer(message.position, position));
  }

  /** Cuts every connection. What is on its way is lost. */
  cut(): void {
    for (const link of [...this.#links]) link.cut();
  }

  forget(link: ModelLink): void {
    this.#links.delete(link);
  }
}

class ModelLink implements Link {
  readonly transport = "model";
  readonly liveness = "own";
  readonly canPublish = true;
  readonly #gateway: ModelGateway;
  readonly #events: LinkEvents;
  /** What the client is subscribed to, and how far it has been sent. */
  #channels = new Map<string, Position>();
  #isOpen = true;
  #last = 0;

  constructor(gateway: ModelGateway, request: OpenRequest, events: LinkEvents) {
    this.#gateway = gateway;
    this.#events = events;
    this.#at(() => {
      if (!gateway.isUp) return this.cut();
      this.#say({ type: "welcome", payload: { ...WELCOME, messages_per_second: 1_000 } });
      this.#subscribe(request.channels, request.correlationId);
    });
  }

  send(frame: ClientFrame): boolean {
    this.#at(() => {
      const { channel = "", correlation_id } = frame;
      if (frame.type === "subscribe") this.#subscribe([{ channel, position: frame.position ?? null }], correlation_id!);
      if (frame.type === "unsubscribe") {
        this.#channels.delete(channel);
        this.#say({ type: "unsubscribed", channel, payload: undefined, correlation_id });
      }
      if (frame.type === "publish") {
        const { position, duplicate } = this.#gateway.publish(channel, frame.payload, frame.id);
        this.#say({ type: "ack", channel, payload: { level: "durable", duplicate }, position, correlation_id });
      }
    });
    return true;
  }

  close(): void {
    this.#isOpen = false;
    this.#gateway.forget(this);
  }

  cut(): void {
    if (!this.#isOpen) return;
    this.close();
    this.#gateway.environment.timer(1, () => this.#events.closed({ code: 1006, reason: "" }));
  }

  message({ position, channel, payload }: Stored): void {
    const names = [...this.#channels.keys()].filter((name) => matches(name, channel));
    if (names.length === 0) return;
    for (const name of names) this.#channels.set(name, position);
    this.#say({ type: "x", channel, payload, position, timestamp: "2026-11-20T12:00:00.000Z" });
  }

  failed(): void {
    for (const [channel, after] of this.#channels) this.#gap(channel, after, "failover");
  }

  /** Subscriptions that are resumed together begin at the oldest position that can be used. */
  #subscribe(resumes: Resume[], correlation_id: string): void {
    const { newest } = this.#gateway;
    const usable = resumes.flatMap(({ position }) => (position !== null && this.#gateway.after(position) ? [position] : []));
    const start = usable.reduce((a, b) => (isNewer(a, b) ? b : a), newest);
    const lost: [string, Position][] = [];
    for (const { channel, position } of resumes) {
      const resumed = position !== null && usable.includes(position);
      this.#say({ type: "subscribed", channel, payload: { resumed, degraded: false }, position: resumed ? position : start, correlation_id });
      if (position !== null && !resumed) lost.push([channel, position]);
    }
    for (const [channel, position] of lost) this.#gap(channel, position, "expired", start);
    const names = resumes.map(({ channel }) => channel);
    for (const message of this.#gateway.after(start)!) {
      if (names.some((name) => matches(name, message.channel))) {
        this.#say({ type: "x", channel: message.channel, payload: message.payload, position: message.position, timestamp: "2026-11-20T12:00:00.000Z" });
      }
    }
    for (const name of names) this.#channels.set(name, newest);
  }

  #gap(channel: string, after: Position, reason: string, upto = this.#gateway.newest): void {
    if (this.#channels.has(channel)) this.#channels.set(channel, upto);
    this.#say({ type: "gap", channel, payload: { after, upto, reason, certain: false } });
  }

  /** Frames arrive in order, some milliseconds later; not any more when the connection is cut. */
  #say(frame: ServerFrame): void {
    this.#at(() => this.#events.frame(frame));
  }

  #at(run: () => void): void {
    const { environment } = this.#gateway;
    this.#last = Math.max(this.#last, environment.now() + Math.floor(environment.random() * 40));
    environment.timer(this.#last - environment.now(), () => this.#isOpen && run());
  }
}
