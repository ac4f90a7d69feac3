// The library behind proxies that block, buffer and cut, before a real cluster.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { eventStream, fallback } from "../src/fallback/index.js";
import { TestCluster, until, webSockets } from "./cluster.js";
import { CountingReader } from "./counting_reader.js";
import { Proxy } from "./proxy.js";

const ours = webSockets[0]![1];
const transports = () => fallback([ours, eventStream()], { storage: null });

async function blocked(t: TestContext, cluster: TestCluster): Promise<void> {
  const proxy = await Proxy.start(t, cluster.url, { blocksWebSockets: true });
  const reader = await new CountingReader(t, { cluster, url: proxy.url, transport: transports(), channel: "collection:94:*" }).begun();
  assert.equal(reader.connections.at(-1)!.transport, "sse");
  const publisher = cluster.publisher("collection:94");
  publisher.start();
  t.after(() => publisher.stop());
  await reader.receivesMore(20);
  proxy.cut();
  await reader.receivesMore(20);
  // The network changes: WebSockets work again, and continue where the stream was.
  proxy.faults.blocksWebSockets = false;
  proxy.cut();
  await reader.receivesMore(20);
  await publisher.stop();
  await reader.hasAll(publisher.count);
  assert.ok(reader.connections.length >= 2);
}

async function buffered(t: TestContext, cluster: TestCluster): Promise<void> {
  const proxy = await Proxy.start(t, cluster.url, { blocksWebSockets: true, buffersStreams: true });
  const reader = new CountingReader(t, { cluster, url: proxy.url, transport: transports(), channel: "collection:95:*" });
  await until("an event stream was tried", () => proxy.requests.some((line) => line.startsWith("GET /sse")));
  proxy.faults.blocksWebSockets = false;
  await reader.begun();
  assert.deepEqual(reader.connections.map(({ transport }) => transport), ["websocket"]);
}

async function cut(t: TestContext, cluster: TestCluster): Promise<void> {
  const proxy = await Proxy.start(t, cluster.url, { idleMs: 1_000 });
  const reader = await new CountingReader(t, { cluster, url: proxy.url, transport: ours, channel: "collection:96:*" }).begun();
  const publisher = cluster.publisher("collection:96");
  for (let n = 0; n < 3; n++) {
    const { cuts } = proxy;
    await publisher.publish();
    await until("the idle connection is cut", () => proxy.cuts > cuts);
    await publisher.publish();
  }
  await reader.hasAll(6);
  assert.ok(reader.connections.length >= 3);
}

test("behind proxies", { concurrency: 3 }, async (t) => {
  const cluster = await TestCluster.start(t);
  await Promise.all([
    t.test("where WebSockets are blocked, event streams carry everything", (t) => blocked(t, cluster)),
    t.test("where streams are buffered too, the client goes on as soon as it can", (t) => buffered(t, cluster)),
    t.test("a proxy that cuts idle connections costs no message", (t) => cut(t, cluster)),
  ]);
});
