// A transport whose other end is the test.
import assert from "node:assert/strict";

import type { ClientFrame, ControlFrame, ServerFrame, Welcome } from "../src/frame.js";
import type { Link, LinkEnd, LinkEvents, OpenRequest, Transport } from "../src/transport.js";

export const WELCOME: Welcome = {
  session_id: "8d3f0c1e5b7a49f2a6c4e0d1b2f3a495",
  user: "alice",
  tenant: "acme",
  instance: "gw-1",
  ping_interval_ms: 30_000,
  message_bytes_max: 1_048_576,
  messages_per_second: 100,
  channels_max: 256,
};

export class ScriptedLink implements Link {
  readonly transport: string;
  readonly liveness: Link["liveness"] = "ping";
  readonly canPublish = true;
  readonly request: OpenRequest;
  readonly events: LinkEvents;
  readonly sent: ClientFrame[] = [];
  isClosed = false;
  /** Pings get no answer. */
  isDead = false;

  constructor(transport: string, request: OpenRequest, events: LinkEvents) {
    this.transport = transport;
    this.request = request;
    this.events = events;
  }

  send(frame: ClientFrame): boolean {
    assert.ok(!this.isClosed, "nothing is sent on a closed link");
    this.sent.push(frame);
    if (frame.type === "ping" && !this.isDead) queueMicrotask(() => this.frame({ type: "pong" }));
    return true;
  }

  close(): void {
    this.isClosed = true;
  }

  /** Takes the frames of a type that were sent. */
  taken(type: ClientFrame["type"]): ClientFrame[] {
    const taken = this.sent.filter((frame) => frame.type === type);
    for (const frame of taken) this.sent.splice(this.sent.indexOf(frame), 1);
    return taken;
  }

  frame(frame: object): void {
    this.events.frame(frame as ServerFrame);
  }

  welcome(fields: Partial<Welcome> = {}): void {
    this.frame({ type: "welcome", payload: { ...WELCOME, ...fields } } satisfies ControlFrame<"welcome">);
  }

  subscribed(channel: string, position: string | null, resumed = false): void {
    const place = position === null ? {} : { position };
    this.frame({ type: "subscribed", channel, payload: { resumed, degraded: position === null }, ...place });
  }

  message(channel: string, position: string | undefined, payload: unknown = null): void {
    this.frame({ type: "x", channel, payload, timestamp: "2026-11-20T12:00:00.000Z", ...(position && { position }) });
  }

  closed(end: Partial<LinkEnd> = {}): void {
    this.events.closed({ code: 1006, reason: "", ...end });
  }
}

export class ScriptedTransport implements Transport {
  readonly name: string;
  readonly links: ScriptedLink[] = [];

  constructor(name = "scripted") {
    this.name = name;
  }

  open(request: OpenRequest, events: LinkEvents): ScriptedLink {
    const link = new ScriptedLink(this.name, request, events);
    this.links.push(link);
    return link;
  }

  get last(): ScriptedLink {
    const link = this.links.at(-1);
    assert.ok(link, "a link was opened");
    return link;
  }
}
