// The transport `websocket`, against a server of the package ws.
import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";

import { WebSocketServer, type WebSocket } from "ws";

import { encode } from "../src/codec.js";
import { connect } from "../src/client.js";
import { endpoint } from "../src/transport.js";
import { WELCOME } from "./scripted_transport.js";
import { until, webSockets } from "./cluster.js";

const header = { type: "scan", channel: "scan:1", timestamp: "2026-11-20T12:00:00.000Z" };

async function serve(t: TestContext): Promise<{ url: string; accepted: () => Promise<WebSocket>; server: WebSocketServer }> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, accepted: async () => (await once(server, "connection"))[0], server };
}

for (const [name, transport] of webSockets) {
  test(`hello, messages and bytes over ${name}`, async (t) => {
    const { url, accepted } = await serve(t);
    const payloads: unknown[] = [];
    const client = connect(url, { token: "t", transport });
    t.after(() => client.close());
    client.watchPresence("scan:1");
    client.subscribe("scan:1", ({ payload }) => payloads.push(payload));
    const socket = await accepted();
    assert.equal(socket.protocol, "tidegate.v1");
    const received: { data: Buffer; isBinary: boolean }[] = [];
    socket.on("message", (data: Buffer, isBinary) => received.push({ data, isBinary }));
    await until("hello came", () => received.length === 1);
    const hello = JSON.parse(received[0]!.data.toString());
    assert.deepEqual([hello.type, hello.payload], ["hello", { token: "t", channels: [{ channel: "scan:1", position: null }] }]);
    socket.send(JSON.stringify({ type: "welcome", payload: WELCOME }));
    socket.send("not JSON");
    socket.send(Buffer.from("02000c7b2274797065223a2278227dff", "hex"));
    socket.send(JSON.stringify({ type: "subscribed", channel: "scan:1", payload: { resumed: false, degraded: false }, position: "1-1" }));
    socket.send(JSON.stringify({ ...header, payload: { n: 1 }, position: "1-2" }));
    const bytes = encode({ ...header, position: "1-3", payload: Uint8Array.of(255, 0) } as never);
    socket.send(bytes as Uint8Array);
    await until("both messages came", () => payloads.length === 2);
    assert.deepEqual(payloads, [{ n: 1 }, Uint8Array.of(255, 0)]);
    await until("the client asks who is there", () => received.length === 2);
    assert.equal(JSON.parse(received[1]!.data.toString()).type, "presence");

    client.publish("scan:1", Uint8Array.of(1, 2), { event: "scan" }).catch(() => {});
    client.publish("scan:1", { n: 2 }).catch(() => {});
    await until("both were published", () => received.length === 4);
    const [binary, text] = received.slice(2);
    assert.ok(binary!.isBinary && !text!.isBinary);
    const length = binary!.data.readUInt16BE(1);
    const sent = JSON.parse(binary!.data.subarray(3, 3 + length).toString());
    assert.deepEqual([binary!.data[0], sent.type, sent.channel, sent.event, "payload" in sent], [1, "publish", "scan:1", "scan", false]);
    assert.deepEqual([...binary!.data.subarray(3 + length)], [1, 2]);
    const closed = once(socket, "close");
    client.close();
    assert.equal((await closed)[0], 1000);
  });

  test(`many channels follow the token over ${name}`, async (t) => {
    const { url, accepted } = await serve(t);
    const client = connect(url, { token: "t".repeat(8_000), transport });
    t.after(() => client.close());
    const channels = Array.from({ length: 256 }, (_, n) => `scan:${n}:${"x".repeat(40)}`);
    for (const channel of channels) client.subscribe(channel, () => {}, { position: "1-1" });
    const socket = await accepted();
    const received: { type: string; payload: { token?: string; channels?: { channel: string }[] } }[] = [];
    const sizes: number[] = [];
    socket.on("message", (data: Buffer) => {
      sizes.push(data.length);
      received.push(JSON.parse(data.toString()));
    });
    await until("hello came", () => received.length === 1);
    assert.ok(sizes[0]! <= 16_384 && received[0]!.payload.channels === undefined);
    socket.send(JSON.stringify({ type: "welcome", payload: WELCOME }));
    await until("the channels came, all together", () => received.length === 2);
    assert.deepEqual([received[1]!.type, received[1]!.payload.token], ["hello", undefined]);
    assert.deepEqual(received[1]!.payload.channels!.map(({ channel }) => channel), channels);
  });

  test(`close codes and lost lines over ${name}`, async (t) => {
    const { url, accepted } = await serve(t);
    for (const [end, code] of [
      [(socket: WebSocket) => socket.close(4505, "disconnected by an operator"), 4505],
      [(socket: WebSocket) => socket.terminate(), 1006],
    ] as const) {
      const client = connect(url, { token: "t", transport });
      end(await accepted());
      await until("the client knows", () => "reason" in client.state && client.state.reason?.code === code);
      client.close();
    }
    const closed = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    const refused = connect(`ws://127.0.0.1:${port}/`, { token: "t", transport });
    await until("nothing listens there", () => refused.state.name === "waiting");
    refused.close();
  });
}

test("where there is no WebSocket, the state says what to do", async () => {
  const { WebSocket } = globalThis;
  try {
    Reflect.deleteProperty(globalThis, "WebSocket");
    const client = connect("ws://127.0.0.1:1/", { token: "t" });
    await until("the client waits", () => client.state.name === "waiting");
    assert.match((client.state as { reason: { message: string } }).reason.message, /give `websocket\(\)` a constructor/);
    client.close();
  } finally {
    if (WebSocket) globalThis.WebSocket = WebSocket;
  }
});

test("addresses of a gateway", () => {
  for (const [given, ws, sse] of [
    ["ws://h:1", "ws://h:1/ws", "http://h:1/sse"],
    ["https://h/", "wss://h/ws", "https://h/sse"],
    ["wss://h/ws", "wss://h/ws", "https://h/sse"],
    ["wss://h/ws/acme", "wss://h/ws/acme", "https://h/sse/acme"],
    ["http://h/live/ws?a=b", "ws://h/live/ws?a=b", "http://h/live/sse?a=b"],
    ["http://h/live", "ws://h/live/ws", "http://h/live/sse"],
  ] as const) {
    assert.deepEqual([endpoint(given, "ws").href, endpoint(given, "sse").href], [ws, sse], given);
  }
  assert.throws(() => endpoint("/ws", "ws"), TypeError);
});
