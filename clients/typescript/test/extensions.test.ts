// Presence, receipts, bytes and live states against a real gateway.
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";

import { connect, type Client } from "../src/client.js";
import { eventStream } from "../src/fallback/index.js";
import { presence } from "../src/presence.js";
import { receipts } from "../src/receipts.js";
import { subscribeState } from "../src/snapshot.js";
import type { Transport } from "../src/transport.js";
import { devToken, startGateway, until, webSockets } from "./cluster.js";

const FAMILIES = "[{ name = 'room', presence = true, receipts = true, binary = true }]";
const ours = webSockets[0]![1];
let url: string;
const ends: (() => unknown)[] = [];
before(async () => (url = await startGateway({ after: (run) => ends.push(run) }, FAMILIES)));
after(async () => {
  for (const end of ends) await end();
});

function join(t: TestContext, user: string, transport: Transport = ours): { client: Client; problems: unknown[] } {
  const client = connect(url, { token: () => devToken(url, user), transport });
  const problems: unknown[] = [];
  client.on("error", (error) => problems.push(error));
  t.after(() => client.close());
  return { client, problems };
}

for (const [name, transport] of [["a WebSocket", () => ours], ["event streams", eventStream]] as const) {
  test(`members come and go over ${name}`, async (t) => {
    const scope = `room:${name.replaceAll(" ", "")}`;
    const { client, problems } = join(t, "alice", transport());
    // Over event streams, a connection needs a subscription.
    const here = presence(client, `${scope}:*`);
    const users = () => [...here.members.keys()].sort();
    await until("alice sees herself", () => users().join() === "alice" || users());
    const bob = join(t, "bob");
    bob.client.subscribe(scope, () => {});
    await until("alice sees bob", () => users().join() === "alice,bob" || users());
    assert.deepEqual([here.count, here.isComplete, here.isStale], [2, true, false]);
    bob.client.close();
    await until("alice sees bob leave", () => users().join() === "alice" || users());
    assert.deepEqual(problems, []);
  });
}

test("receipts are accepted", async (t) => {
  const { client, problems } = join(t, "alice");
  const accepted: unknown[] = [];
  client.on("frame", ({ type, position }) => type === "receipt" && accepted.push(position));
  const told = receipts(client);
  const subscription = client.subscribe("room:receipts", (message) => told.done(message));
  await until("the subscription has begun", () => subscription.state === "live");
  const acks = await Promise.all([1, 2, 3].map((n) => client.publish("room:receipts", n)));
  await until("a receipt was accepted", () => accepted.length > 0);
  assert.deepEqual(accepted, [acks.at(-1)!.position], "one for all three");
  assert.deepEqual(problems, []);
});

for (const [name, transport] of [["a WebSocket", () => ours], ["event streams", eventStream]] as const) {
  test(`bytes arrive as bytes over ${name}`, async (t) => {
    const channel = `room:${name.replaceAll(" ", "")}:bytes`;
    const { client } = join(t, "alice", transport());
    const payloads: unknown[] = [];
    const subscription = client.subscribe(channel, ({ payload }) => payloads.push(payload));
    await until("the subscription has begun", () => subscription.state === "live");
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    await join(t, "bob").client.publish(channel, bytes, { event: "scan" });
    await join(t, "bob").client.publish(channel, { text: "é" });
    await until("both came", () => payloads.length === 2);
    assert.deepEqual(payloads, [bytes, { text: "é" }]);
  });
}

test("a state continues from the position of its snapshot", async (t) => {
  const { client, problems } = join(t, "alice");
  const writer = join(t, "bob").client;
  const sum = { state: 0, position: "" };
  const add = async (n: number) => {
    const { position } = await writer.publish("room:sum:add", n);
    Object.assign(sum, { state: sum.state + n, position });
  };
  for (const n of [1, 2, 3]) await add(n);
  const snapshot = { ...sum };
  await add(4);
  let loads = 0;
  const live = subscribeState<number>(client, "room:sum:*", {
    snapshot: async () => (loads++, snapshot),
    apply: (state, { payload }) => state + (payload as number),
  });
  await until("what followed the snapshot was applied", () => live.state === 10 || live.state);
  await add(5);
  await until("what is new is applied", () => live.state === 15 || live.state);
  assert.deepEqual([loads, live.status, problems], [1, "live", []]);
});
