// The library against a real cluster, while instances are killed and drained.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { connect } from "../src/client.js";
import { eventStream } from "../src/fallback/index.js";
import type { Ack } from "../src/publish_queue.js";
import { TestCluster, until, webSockets } from "./cluster.js";
import { CountingReader, type Counted } from "./counting_reader.js";

const [ours, ws] = webSockets.map(([, transport]) => transport);

/** A backend publishes, and the instances that the reader is connected to go: one by kill -9, one by SIGTERM. */
async function survives(t: TestContext, cluster: TestCluster, reader: CountingReader, scope: string): Promise<void> {
  const publisher = cluster.publisher(scope);
  await reader.begun();
  publisher.start();
  t.after(() => publisher.stop());
  await reader.receivesMore(20);
  const killed = reader.instance;
  assert.match(await cluster.kill(killed, "SIGKILL"), /^signal: 9/);
  await reader.left(killed);
  await reader.receivesMore(20);
  const drained = reader.instance;
  assert.equal(await cluster.kill(drained, "SIGTERM"), "exit status: 0");
  await reader.left(drained);
  await reader.receivesMore(20);
  await publisher.stop();
  await reader.hasAll(publisher.count);
}

test("an exact, ordered count over WebSockets, while an instance is killed and another drained", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = new CountingReader(t, { cluster, transport: ours!, channel: "collection:90:*" });
  await survives(t, cluster, reader, "collection:90");
});

test("the same over event streams", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = new CountingReader(t, { cluster, transport: eventStream(), channel: "collection:93:*" });
  await survives(t, cluster, reader, "collection:93");
});

test("what a client publishes while instances die is stored once", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = await new CountingReader(t, { cluster, transport: ours!, channel: "collection:91:*" }).begun();
  const writer = connect<Counted>(cluster.url, { token: () => cluster.token("bob"), transport: ws! });
  t.after(() => writer.close());
  const acks: Promise<Ack>[] = [];
  let isRunning = true;
  const writing = (async () => {
    for (let n = 1; isRunning; n++) {
      acks.push(writer.publish("collection:91:ops", { n, by: "bob" }, { event: "counted" }));
      await acks.at(-1);
    }
  })();
  await reader.receivesMore(50);
  assert.ok(writer.state.name === "connected");
  await cluster.kill(writer.state.session.instance, "SIGKILL");
  await reader.receivesMore(50);
  isRunning = false;
  await writing;
  for (const { level } of await Promise.all(acks)) assert.equal(level, "durable");
  await reader.hasAll(acks.length);
});

test("a refused channel fails alone, over every transport", async (t) => {
  const cluster = await TestCluster.start(t);
  for (const [at, transport] of [ws!, eventStream()].entries()) {
    const scope = `collection:92${at}`;
    const reader = new CountingReader(t, { cluster, transport, channel: `${scope}:*` });
    const codes: string[] = [];
    const refused = reader.client.subscribe("user:somebody", () => {});
    refused.on("error", ({ code, message }) => codes.push(`${code}: ${message}`));
    await until("the other user's channel is refused", () => codes.length > 0);
    assert.match(codes[0]!, /^forbidden: /);
    assert.equal(refused.state, "failed");
    await reader.begun();
    const publisher = cluster.publisher(scope);
    await publisher.publish();
    await reader.hasAll(1);
  }
  const writer = connect(cluster.url, { token: () => cluster.token("bob"), transport: ws! });
  t.after(() => writer.close());
  await assert.rejects(writer.publish("user:somebody", 1), { code: "forbidden" });
});
