// The transports `sse`, against a scripted fetch and a scripted EventSource.
import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/client.js";
import { eventSource, eventStream } from "../src/fallback/index.js";
import type { ControlFrame, Gap } from "../src/frame.js";
import { ForbiddenError } from "../src/protocol.js";
import type { Transport } from "../src/transport.js";
import { ScriptedTransport, WELCOME } from "./scripted_transport.js";
import { inState } from "./stage.js";
import { settle, VirtualEnvironment } from "./virtual_environment.js";

/** One request, and the stream that answers it. */
class Request {
  readonly url: URL;
  readonly headers: Record<string, string>;
  isAborted = false;
  #answer!: (response: Response) => void;
  readonly response = new Promise<Response>((resolve) => (this.#answer = resolve));
  #stream!: ReadableStreamDefaultController<Uint8Array>;

  constructor(url: URL, init: RequestInit) {
    this.url = url;
    this.headers = init.headers as Record<string, string>;
    init.signal!.addEventListener("abort", () => (this.isAborted = true));
  }

  get channels(): string[] {
    return this.url.searchParams.get("channels")?.split(",") ?? [];
  }

  refuse(status: number, body: string): void {
    this.#answer(new Response(body, { status }));
  }

  open(): void {
    this.#answer(new Response(new ReadableStream({ start: (controller) => void (this.#stream = controller) })));
  }

  async say(text: string): Promise<void> {
    this.#stream.enqueue(new TextEncoder().encode(text));
    await settle();
  }

  async frame(frame: object, id?: string): Promise<void> {
    await this.say(`${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(frame)}\n\n`);
  }

  async welcome(): Promise<void> {
    this.open();
    await this.say(`retry: 700\nevent: welcome\ndata: ${JSON.stringify({ type: "welcome", payload: WELCOME })}\n\n`);
  }

  async subscribed(channel: string, position: string, id: string, resumed = false): Promise<void> {
    await this.frame({ type: "subscribed", channel, payload: { resumed, degraded: false }, position }, id);
  }

  async message(channel: string, position: string, id: string, fields: object = { payload: null }): Promise<void> {
    await this.frame({ type: "x", channel, timestamp: "2026-11-20T12:00:00.000Z", position, ...fields }, id);
  }

  async end(): Promise<void> {
    this.#stream.close();
    await settle();
  }
}

/** A transport whose requests the test answers. */
function scripted(): { requests: Request[]; transport: Transport } {
  const requests: Request[] = [];
  const fetch = ((url: URL, init: RequestInit) => {
    const request = new Request(url, init);
    requests.push(request);
    return request.response;
  }) as typeof globalThis.fetch;
  return { requests, transport: eventStream({ fetch }) };
}

async function stage(transport: Transport, channels: Record<string, string | null>) {
  const environment = new VirtualEnvironment();
  const client = connect("wss://gateway.test/ws/acme", { token: async () => "secret", environment, transport });
  const seen: string[] = [];
  const payloads: unknown[] = [];
  for (const [channel, position] of Object.entries(channels)) {
    const subscription = client.subscribe(channel, ({ position, payload }) => {
      seen.push(`${channel} ${position}`);
      payloads.push(payload);
    }, { position });
    subscription.on("gap", ({ after, upto, reason }: Gap) => seen.push(`${channel} gap ${after} ${upto} ${reason}`));
    subscription.on("subscribed", ({ resumed }) => seen.push(`${channel} ${resumed ? "resumed" : "begun"}`));
    subscription.on("error", (error) => seen.push(`${channel} ${error.code} ${error instanceof ForbiddenError}`));
  }
  await settle();
  return { client, environment, seen, payloads };
}

test("one request with the token and all channels, and its id when it comes back", async () => {
  const { requests, transport } = scripted();
  const { client, environment, seen, payloads } = await stage(transport, { "room:1:*": null, "room:2": null });
  const [first] = requests;
  assert.equal(`${first!.url.origin}${first!.url.pathname}`, "https://gateway.test/sse/acme");
  assert.deepEqual([first!.channels, first!.headers.Authorization, first!.headers["Last-Event-ID"]], [["room:1:*", "room:2"], "Bearer secret", undefined]);
  await first!.welcome();
  assert.equal(inState(client, "connected").transport, "sse");
  await first!.subscribed("room:1:*", "1-1", "i1");
  await first!.subscribed("room:2", "1-1", "i2");
  await first!.message("room:1:a", "1-2", "i3", { payload_base64: "/wA=" });
  await first!.say("id: i4\n\n:\n\n");
  assert.deepEqual(seen, ["room:1:* begun", "room:2 begun", "room:1:* 1-2"]);
  assert.deepEqual(payloads, [Uint8Array.of(255, 0)]);
  await first!.end();
  assert.ok(inState(client, "waiting").until - environment.date() >= 700, "as long as the gateway asks for");
  await environment.advance(900);
  assert.equal(requests.length, 2);
  assert.equal(requests[1]!.headers["Last-Event-ID"], "i4");
  client.close();
  assert.ok(requests[1]!.isAborted);
});

test("a subscription that is added has a stream of its own", async () => {
  const { requests, transport } = scripted();
  const { client, environment, seen } = await stage(transport, { "room:1": null });
  await requests[0]!.welcome();
  await requests[0]!.subscribed("room:1", "1-1", "a1");
  const added = ["room:2", "room:3"].map((channel) => client.subscribe(channel, ({ position }) => seen.push(`${channel} ${position}`)));
  await settle();
  assert.deepEqual(requests.map(({ channels }) => channels), [["room:1"], ["room:2", "room:3"]]);
  await requests[1]!.welcome();
  await requests[1]!.subscribed("room:2", "1-1", "b1");
  await requests[1]!.message("room:2", "1-2", "b2");
  assert.equal(seen.at(-1), "room:2 1-2");
  // Both come back, each with its id.
  await requests[0]!.end();
  assert.ok(requests[1]!.isAborted);
  await environment.advance(900);
  assert.deepEqual(requests.slice(2).map(({ headers }) => headers["Last-Event-ID"]), ["a1", "b2"]);
  await requests[3]!.welcome();
  added.forEach((subscription) => subscription.unsubscribe());
  await settle();
  assert.ok(requests[3]!.isAborted && !requests[2]!.isAborted, "nothing wants it");
  client.close();
});

test("too many streams are put together", async () => {
  const { requests, transport } = scripted();
  const { client, environment } = await stage(transport, { "room:0": null });
  await requests[0]!.welcome();
  for (const n of [1, 2, 3]) {
    client.subscribe(`room:${n}`, () => {});
    await settle();
  }
  assert.equal(requests.length, 4);
  client.subscribe("room:4", () => {});
  await settle();
  await environment.advance(100);
  assert.deepEqual(requests.slice(4).map(({ channels }) => channels), [["room:0", "room:1", "room:2", "room:3", "room:4"]]);
  client.close();
});

test("more channels than an id has room for need several streams", async () => {
  const { requests, transport } = scripted();
  const channels = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`collection:${String(n).padStart(9, "0")}`, null]));
  const { client } = await stage(transport, channels);
  assert.deepEqual(requests.map(({ channels }) => channels.length), [64, 1]);
  client.close();
});

test("what another transport has reached is a gap, unless nothing came since", async () => {
  const { requests, transport } = scripted();
  const { client, seen } = await stage(transport, { "room:1": "1-5", "room:2": "1-5" });
  await requests[0]!.welcome();
  await requests[0]!.subscribed("room:1", "1-9", "i1");
  await requests[0]!.subscribed("room:2", "1-5", "i2");
  await requests[0]!.message("room:1", "1-10", "i3");
  assert.deepEqual(seen, ["room:1 begun", "room:1 gap 1-5 1-9 transport", "room:2 resumed", "room:1 1-10"]);
  client.close();
});

test("ids are not used when another transport has gone on since", async () => {
  const { requests, transport } = scripted();
  const other = new ScriptedTransport("websocket");
  let current = transport;
  const changing: Transport = { name: "changing", open: (...given) => current.open(...given) };
  const { client, environment, seen } = await stage(changing, { "room:1": null });
  await requests[0]!.welcome();
  await requests[0]!.subscribed("room:1", "1-1", "i1");
  await requests[0]!.message("room:1", "1-2", "i2");
  current = other;
  await requests[0]!.end();
  await environment.advance(900);
  assert.deepEqual(other.last.request.channels, [{ channel: "room:1", position: "1-2" }]);
  other.last.welcome();
  other.last.subscribed("room:1", "1-2", true);
  other.last.message("room:1", "1-3");
  current = transport;
  other.last.closed();
  await environment.advance(1_000);
  assert.equal(requests[1]!.headers["Last-Event-ID"], undefined);
  await requests[1]!.welcome();
  await requests[1]!.subscribed("room:1", "1-4", "j1");
  assert.deepEqual(seen.slice(-3), ["room:1 1-3", "room:1 begun", "room:1 gap 1-3 1-4 transport"]);
  client.close();
});

test("a refused channel fails alone", async () => {
  const { requests, transport } = scripted();
  const { client, seen } = await stage(transport, { "room:1": null, "user:bob": null });
  requests[0]!.refuse(403, JSON.stringify({ code: "forbidden", message: 'the token does not grant "user:bob"' }));
  await settle();
  assert.deepEqual(seen, ["user:bob forbidden true"]);
  assert.deepEqual(requests[1]!.channels, ["room:1"]);
  await requests[1]!.welcome();
  await requests[1]!.subscribed("room:1", "1-1", "i1");
  assert.equal(seen.at(-1), "room:1 begun");
  client.close();
});

test("a refusal with an id begins anew without it", async () => {
  const { requests, transport } = scripted();
  const { client, environment, seen } = await stage(transport, { "room:1": null });
  await requests[0]!.welcome();
  await requests[0]!.subscribed("room:1", "1-1", "i1");
  await requests[0]!.message("room:1", "1-2", "i2");
  await requests[0]!.end();
  await environment.advance(900);
  requests[1]!.refuse(403, JSON.stringify({ code: "wrong_identity", message: "another user's" }));
  await settle();
  assert.equal(requests[2]!.headers["Last-Event-ID"], undefined);
  await requests[2]!.welcome();
  await requests[2]!.subscribed("room:1", "1-3", "j1");
  assert.equal(seen.at(-1), "room:1 gap 1-2 1-3 transport");
  client.close();
});

test("statuses of the gateway end the client, those of a proxy do not", async () => {
  for (const [status, body, name] of [
    [401, JSON.stringify({ code: "unauthenticated", message: "no key" }), "closed"],
    [403, JSON.stringify({ code: "wrong_origin", message: "no" }), "closed"],
    [401, JSON.stringify({ code: "revoked", message: "no more" }), "closed"],
    [401, JSON.stringify({ code: "token_expired", message: "old" }), "waiting"],
    [502, "<html>", "waiting"],
    [403, "<html>blocked", "waiting"],
    [404, JSON.stringify({ code: "not_found", message: "no" }), "waiting"],
  ] as const) {
    const { requests, transport } = scripted();
    const { client } = await stage(transport, { "room:1": null });
    requests[0]!.refuse(status, body);
    await settle();
    inState(client, name);
    client.close();
  }
});

test("a stream in which nothing comes is given up; a comment is enough", async () => {
  const { requests, transport } = scripted();
  const { client, environment } = await stage(transport, { "room:1": null });
  await requests[0]!.welcome();
  for (let n = 0; n < 5; n++) {
    await environment.advance(30_000);
    await requests[0]!.say(":\n\n");
  }
  inState(client, "connected");
  await environment.advance(74_000);
  inState(client, "connected");
  await environment.advance(1_000);
  inState(client, "waiting");
  assert.ok(requests[0]!.isAborted);
  client.close();
});

test("presence is asked for with the stream of the scope", async () => {
  const { requests, transport } = scripted();
  const { client } = await stage(transport, { "room:1:*": null, "room:22": null });
  await requests[0]!.welcome();
  await requests[0]!.subscribed("room:1:*", "1-1", "i1");
  client.watchPresence("room:1");
  await settle();
  assert.ok(requests[0]!.isAborted);
  assert.deepEqual([requests[1]!.url.searchParams.get("presence"), requests[1]!.headers["Last-Event-ID"]], ["room:1", "i1"]);
  client.close();
});

test("messages to publish wait for another transport, and tokens are renewed by a new stream", async () => {
  const { requests, transport } = scripted();
  const { client, environment } = await stage(transport, { "room:1": null });
  requests[0]!.open();
  const welcome: ControlFrame<"welcome"> = { type: "welcome", payload: { ...WELCOME, expires_in_ms: 60_000 } };
  await requests[0]!.frame(welcome);
  await requests[0]!.subscribed("room:1", "1-1", "i1");
  let isSettled = false;
  client.publish("room:1", 1).then(() => (isSettled = true), () => {});
  await environment.advance(31_000);
  assert.equal(requests.length, 2);
  assert.ok(requests[0]!.isAborted);
  assert.equal(requests[1]!.headers["Last-Event-ID"], "i1");
  assert.equal(isSettled, false);
  client.close();
});

test("an EventSource carries the id in the address, and its error may be the gateway's", async () => {
  class Source {
    static all: Source[] = [];
    readonly readyState = 1;
    readonly url: URL;
    isClosed = false;
    #listeners = new Map<string, (event: object) => void>();
    constructor(url: string, { withCredentials }: { withCredentials: boolean }) {
      assert.ok(withCredentials);
      this.url = new URL(url);
      Source.all.push(this);
    }
    addEventListener(name: string, listener: (event: object) => void): void {
      this.#listeners.set(name, listener);
    }
    close(): void {
      this.isClosed = true;
    }
    emit(name: string, frame?: object, lastEventId = ""): void {
      this.#listeners.get(name)!(frame ? { data: JSON.stringify(frame), lastEventId } : {});
    }
  }
  const { client, environment, seen } = await stage(eventSource(Source), { "room:1": null });
  const [first] = Source.all;
  assert.equal(first!.url.searchParams.get("cursor"), null);
  first!.emit("welcome", { type: "welcome", payload: WELCOME });
  first!.emit("subscribed", { type: "subscribed", channel: "room:1", payload: { resumed: false, degraded: false }, position: "1-1" }, "i1");
  first!.emit("message", { type: "x", channel: "room:1", payload: null, timestamp: "2026-11-20T12:00:00.000Z", position: "1-2" }, "i2");
  first!.emit("error", { type: "error", payload: { code: "unavailable", message: "", retryable: true } });
  inState(client, "connected");
  await environment.advance(600_000);
  inState(client, "connected");
  first!.emit("error");
  inState(client, "waiting");
  assert.ok(first!.isClosed);
  await environment.advance(1_000);
  assert.equal(Source.all[1]!.url.searchParams.get("cursor"), "i2");
  assert.deepEqual(seen, ["room:1 begun", "room:1 1-2"]);
  client.close();
});
