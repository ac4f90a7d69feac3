// Which transport is used, when another one is tried, and when a better one is tried again.
import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/client.js";
import { fallback } from "../src/fallback/index.js";
import { ScriptedTransport } from "./scripted_transport.js";
import { inState } from "./stage.js";
import { settle, VirtualEnvironment } from "./virtual_environment.js";

function storage(kept: Record<string, string> = {}) {
  return { kept, getItem: (key: string) => kept[key] ?? null, setItem: (key: string, value: string) => void (kept[key] = value) };
}

async function stage(kept = storage()) {
  const environment = new VirtualEnvironment();
  const [best, next, last] = ["websocket", "sse", "poll"].map((name) => new ScriptedTransport(name)) as [ScriptedTransport, ScriptedTransport, ScriptedTransport];
  const client = connect("ws://gateway.test", { token: "t", environment, transport: fallback([best, next, last], { storage: kept }) });
  await settle();
  return { client, environment, best, next, last, kept };
}

test("a transport that fails twice, or says nothing, is given up for the next one", async () => {
  const { client, environment, best, next, last } = await stage();
  best.last.closed();
  await environment.advance(100);
  assert.deepEqual([best.links.length, next.links.length], [2, 0], "the first failure may be the instance's");
  best.last.closed();
  await environment.advance(1_000);
  assert.deepEqual([best.links.length, next.links.length], [2, 1]);
  await environment.advance(5_000);
  assert.ok(next.last.isClosed);
  await environment.advance(2_000);
  assert.equal(last.links.length, 1);
  await environment.advance(10_000);
  assert.ok(last.last.isClosed, "the last one has the time that the client gives");
  await environment.advance(8_000);
  assert.equal(best.links.length, 3, "and then the first one again");
  client.close();
});

test("a transport by which the gateway has spoken works, whatever it said", async () => {
  const { client, environment, best, next } = await stage();
  for (let n = 0; n < 5; n++) {
    best.last.frame({ type: "error", payload: { code: "unavailable", message: "full", retryable: true } });
    best.last.closed({ code: 1013 });
    while (best.links.length === n + 1 && next.links.length === 0) await environment.advance(10);
  }
  assert.equal(next.links.length, 0);
  client.close();
});

test("what works is remembered, and better transports are tried again", async () => {
  const kept = storage({ "tidegate.transport": "sse" });
  const { client, environment, best, next } = await stage(kept);
  assert.deepEqual([best.links.length, next.links.length], [0, 1]);
  client.subscribe("room:1", () => {});
  next.last.welcome();
  inState(client, "connected");
  next.last.isDead = true;
  assert.equal(inState(client, "connected").transport, "sse");
  const alive = setInterval(() => {}, 1_000);
  for (let second = 0; second < 121 && best.links.length === 0; second++) {
    next.last.events.alive();
    await environment.advance(1_000);
  }
  assert.equal(best.links.length, 1, "within two minutes");
  assert.deepEqual([best.last.request.channels, best.last.request.sessionId], [[], null], "it changes nothing yet");
  best.last.closed();
  assert.equal(inState(client, "connected").transport, "sse");
  for (let second = 0; second < 241 && best.links.length === 1; second++) {
    next.last.events.alive();
    await environment.advance(1_000);
  }
  assert.equal(best.links.length, 2, "later again");
  best.last.welcome();
  assert.ok(best.last.isClosed && next.last.isClosed);
  await environment.advance(100);
  assert.equal(best.links.length, 3);
  assert.equal(best.last.request.channels.length, 1);
  assert.equal(best.last.request.previous, "sse");
  best.last.welcome();
  assert.equal(inState(client, "connected").transport, "websocket");
  assert.deepEqual(kept.kept, { "tidegate.transport": "websocket" });
  clearInterval(alive);
  client.close();
  assert.equal(environment.pending, 0, "nothing is tried any more");
});

test("closing ends a trial of a better transport", async () => {
  const { client, environment, best, next } = await stage(storage({ "tidegate.transport": "sse" }));
  next.last.welcome();
  while (best.links.length === 0) {
    next.last.events.alive();
    await environment.advance(1_000);
  }
  client.close();
  assert.ok(best.last.isClosed && next.last.isClosed);
  assert.equal(environment.pending, 0);
});

test("a transport that does not exist here is passed over", async () => {
  const environment = new VirtualEnvironment();
  const next = new ScriptedTransport("sse");
  const none = { name: "websocket", open: () => { throw new TypeError("there is no WebSocket here"); } };
  const client = connect("ws://gateway.test", { token: "t", environment, transport: fallback([none, next], { storage: null }) });
  await environment.advance(100);
  assert.equal(next.links.length, 1);
  client.close();
  assert.throws(() => fallback([]), TypeError);
});
