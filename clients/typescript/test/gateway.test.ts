// The library against a real cluster, while instances are killed and drained.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { connect, type Client } from "../src/client.js";
import type { Ack } from "../src/publish_queue.js";
import type { Subscription } from "../src/subscription.js";
import type { Transport } from "../src/transport.js";
import { TestCluster, until, webSockets } from "./cluster.js";

interface Counted {
  counted: { n: number; by: string };
}

/** A client that counts, and what it saw besides. */
class Reader {
  readonly client: Client<Counted>;
  readonly #subscription: Subscription<Counted>;
  readonly numbers: number[] = [];
  readonly problems: unknown[] = [];
  /** The instances it was connected to, one for each connection. */
  readonly instances: string[] = [];

  constructor(t: TestContext, cluster: TestCluster, transport: Transport, channel: string, user: string) {
    this.client = connect<Counted>(cluster.url, { token: () => cluster.token(user), transport });
    t.after(() => this.client.close());
    this.client.on("error", (error) => this.problems.push(error));
    this.client.on("state", (state) => state.name === "connected" && this.instances.at(-1) !== state.session.instance && this.instances.push(state.session.instance));
    const subscription = (this.#subscription = this.client.subscribe(channel, ({ payload }) => this.numbers.push(payload.n)));
    subscription.on("gap", (gap) => this.problems.push(gap));
    subscription.on("error", (error) => this.problems.push(error));
  }

  async begun(): Promise<string> {
    await until("the subscription has begun", () => this.#subscription.state === "live");
    return this.instances.at(-1)!;
  }

  async receivesMore(count: number): Promise<void> {
    const goal = this.numbers.length + count;
    await until(`${goal} messages came`, () => this.numbers.length >= goal);
  }

  /** Each number once, in order, and nothing else. */
  async hasAll(count: number): Promise<void> {
    await until(`message ${count} came`, () => (this.numbers.at(-1) ?? 0) >= count);
    assert.deepEqual(this.numbers, Array.from({ length: count }, (_, index) => index + 1));
    assert.deepEqual(this.problems, []);
  }
}

/** Lets instances go while a backend publishes. */
async function survives(t: TestContext, cluster: TestCluster, reader: Reader, scope: string): Promise<void> {
  const publisher = cluster.publisher(scope);
  const killed = await reader.begun();
  publisher.start();
  t.after(() => publisher.stop());
  await reader.receivesMore(20);
  assert.match(await cluster.kill(killed, "SIGKILL"), /^signal: 9/);
  await until("the client has left the killed instance", () => reader.instances.length >= 2);
  await reader.receivesMore(20);
  const drained = reader.instances.at(-1)!;
  assert.equal(await cluster.kill(drained, "SIGTERM"), "exit status: 0");
  await until("the client has left the drained instance", () => reader.instances.at(-1) !== drained);
  await reader.receivesMore(20);
  await publisher.stop();
  await reader.hasAll(publisher.count);
}

const [global, ws] = webSockets.map(([, transport]) => transport);

test("an exact, ordered count over WebSockets, while an instance is killed and another drained", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = new Reader(t, cluster, global!, "collection:90:*", "alice");
  await survives(t, cluster, reader, "collection:90");
});

test("what a client publishes while instances die is stored once", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = new Reader(t, cluster, global!, "collection:91:*", "alice");
  const writer = connect<Counted>(cluster.url, { token: () => cluster.token("bob"), transport: ws! });
  t.after(() => writer.close());
  await reader.begun();
  const acks: Promise<Ack>[] = [];
  let isRunning = true;
  const writing = (async () => {
    for (let n = 1; isRunning; n++) {
      acks.push(writer.publish("collection:91:ops", { n, by: "bob" }, { event: "counted" }));
      await acks.at(-1);
    }
  })();
  await reader.receivesMore(50);
  assert.equal(writer.state.name, "connected");
  const { instance } = writer.state.name === "connected" ? writer.state.session : assert.fail();
  await cluster.kill(instance, "SIGKILL");
  await reader.receivesMore(50);
  isRunning = false;
  await writing;
  for (const { level } of await Promise.all(acks)) assert.equal(level, "durable");
  await reader.hasAll(acks.length);
});

test("a refused channel fails alone, with a sentence", async (t) => {
  const cluster = await TestCluster.start(t);
  const reader = new Reader(t, cluster, ws!, "collection:92:*", "alice");
  const codes: string[] = [];
  const refused = reader.client.subscribe("user:somebody", () => {});
  refused.on("error", ({ code, message }) => codes.push(`${code}: ${message}`));
  await until("the other user's channel is refused", () => codes.length > 0);
  assert.match(codes[0]!, /^forbidden: /);
  assert.equal(refused.state, "failed");
  await assert.rejects(reader.client.publish("user:somebody", { n: 1, by: "alice" }, { event: "counted" }), { code: "forbidden" });
  await reader.begun();
  const publisher = cluster.publisher("collection:92");
  await publisher.publish();
  await reader.hasAll(1);
});
