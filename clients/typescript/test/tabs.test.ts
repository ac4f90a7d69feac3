// One connection for several tabs.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Client } from "../src/client.js";
import type { Environment, Signal } from "../src/environment.js";
import { presence } from "../src/presence.js";
import { connectTabs, type ChannelLike, type LocksLike } from "../src/tabs/index.js";
import { ScriptedTransport } from "./scripted_transport.js";
import { inState } from "./stage.js";
import { settle, VirtualEnvironment } from "./virtual_environment.js";

/** The locks of an origin. */
class Locks {
  #waiting = new Map<string, (() => void)[]>();

  /** The locks as one tab has them, until it crashes. */
  of(crash: Promise<void>, latency: number): LocksLike {
    return {
      request: async (name, options, run) => {
        for (let n = 0; n < latency; n++) await settle();
        await this.#request(name, options, () => Promise.race([run(), crash]));
      },
    };
  }

  #request: LocksLike["request"] = async (name, { signal }, run) => {
    const queue = this.#waiting.get(name) ?? [];
    this.#waiting.set(name, queue);
    await new Promise<void>((resolve, reject) => {
      const isFree = queue.push(resolve) === 1;
      if (isFree) resolve();
      signal?.addEventListener("abort", () => {
        if (queue.indexOf(resolve) > 0) queue.splice(queue.indexOf(resolve), 1);
        reject(new Error("aborted"));
      });
    });
    try {
      await run();
    } finally {
      queue.shift();
      queue[0]?.();
    }
  };
}

/** The channels of an origin: what is posted reaches the others later, as a copy. */
class Channels {
  readonly #open: ChannelLike[] = [];

  open(): ChannelLike {
    const all = this.#open;
    const channel: ChannelLike = {
      onmessage: null,
      postMessage: (message) => {
        const data = structuredClone(message);
        if (!all.includes(channel)) return;
        for (const other of all.filter((other) => other !== channel)) setImmediate(() => all.includes(other) && other.onmessage?.({ data }));
      },
      close: () => void (all.includes(channel) && all.splice(all.indexOf(channel), 1)),
    };
    all.push(channel);
    return channel;
  }
}

class Origin {
  readonly environment = new VirtualEnvironment();
  readonly #locks = new Locks();
  readonly #channels = new Channels();
  #count = 0;

  /** Another tab. Each later one is slower in asking for its locks. */
  tab(): { client: Client; transport: ScriptedTransport; seen: string[]; crash(): void; signal(signal: Signal): void } {
    const { environment } = this;
    const listeners = new Set<(signal: Signal) => void>();
    // The tabs have one clock. What happens to a page happens to one tab.
    const machine: Environment = {
      now: () => environment.now(),
      date: () => environment.date(),
      timer: (ms, run) => environment.timer(ms, run),
      random: () => environment.random(),
      id: () => environment.id(),
      watch: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    };
    const transport = new ScriptedTransport("websocket");
    let end = () => {};
    const locks = this.#locks.of(new Promise((resolve) => (end = resolve)), this.#count++ * 3);
    const channel = this.#channels.open();
    const client = connectTabs("ws://gateway.test", {
      token: async () => "token",
      transport,
      environment: machine,
      locks,
      channel: () => channel,
    });
    const crash = () => {
      channel.close();
      end();
    };
    return { client, transport, seen: [], crash, signal: (signal) => [...listeners].forEach((listener) => listener(signal)) };
  }

  /** Lets everything settle that is under way. */
  async settled(): Promise<void> {
    for (let n = 0; n < 10; n++) await this.environment.advance(20);
  }
}

function follow({ client, seen }: ReturnType<Origin["tab"]>, channel: string): void {
  const subscription = client.subscribe(channel, ({ position }) => seen.push(String(position)));
  subscription.on("gap", ({ reason }) => seen.push(reason));
  subscription.on("error", ({ code }) => seen.push(code));
}

test("two tabs have one connection, and each its messages", async () => {
  const origin = new Origin();
  const [one, two] = [origin.tab(), origin.tab()];
  follow(one, "room:1:*");
  follow(two, "room:1:*");
  follow(two, "room:2");
  await origin.settled();
  assert.deepEqual([one.transport.links.length, two.transport.links.length], [1, 0]);
  const link = one.transport.last;
  assert.deepEqual(link.request.channels, [], "nothing is known of the tabs before the connection");
  link.welcome();
  await origin.settled();
  assert.equal(inState(one.client, "connected").transport, "tabs");
  assert.equal(inState(two.client, "connected").session.user, "alice");
  assert.deepEqual(link.taken("subscribe").map(({ channel }) => channel).sort(), ["room:1:*", "room:2"]);
  link.subscribed("room:1:*", "1-1");
  link.subscribed("room:2", "1-1");
  link.message("room:1:a", "1-2");
  link.message("room:2", "1-2");
  link.frame({ type: "gap", channel: "room:1:*", payload: { after: "1-2", upto: "1-5", reason: "slow", certain: true } });
  await origin.settled();
  assert.deepEqual([one.seen, two.seen], [["1-2", "slow"], ["1-2", "1-2", "slow"]]);

  const answer = two.client.publish("room:2", { n: 1 }, { event: "said", id: "m1" });
  const refused = two.client.publish("room:3", 1);
  await origin.settled();
  const [frame, other] = link.taken("publish");
  assert.deepEqual([frame?.event, frame?.id, frame?.payload], ["said", "m1", { n: 1 }]);
  link.frame({ type: "ack", channel: "room:2", payload: { level: "durable" }, position: "1-3", correlation_id: frame?.correlation_id });
  link.frame({ type: "error", channel: "room:3", payload: { code: "forbidden", message: "no", retryable: false }, correlation_id: other?.correlation_id });
  assert.deepEqual(await answer, { id: "m1", level: "durable", position: "1-3", duplicate: false });
  await assert.rejects(refused, { code: "forbidden" });

  two.client.close();
  await origin.settled();
  assert.deepEqual(link.taken("unsubscribe").map(({ channel }) => channel), ["room:2"], "the other tab is still there");
  one.client.close();
  assert.ok(link.isClosed);
});

test("when the tab with the connection is closed, another one continues where each tab is", async () => {
  const origin = new Origin();
  const tabs = [origin.tab(), origin.tab(), origin.tab()] as const;
  const [one, two, three] = tabs;
  for (const tab of tabs) follow(tab, "room:1:*");
  await origin.settled();
  one.transport.last.welcome();
  await origin.settled();
  one.transport.last.subscribed("room:1:*", "1-1");
  one.transport.last.message("room:1:a", "1-2");
  await origin.settled();
  const publishing = three.client.publish("room:1:a", 1, { id: "m1" });
  await origin.settled();
  one.client.close();
  await origin.settled();
  assert.ok(one.transport.last.isClosed);
  assert.deepEqual([two.transport.links.length, three.transport.links.length], [1, 0]);
  const link = two.transport.last;
  link.welcome();
  await origin.settled();
  const asked = [...link.request.channels, ...link.sent.filter(({ type }) => type === "subscribe")];
  assert.deepEqual(asked.map(({ channel, position }) => [channel, position]), [["room:1:*", "1-2"]]);
  link.subscribed("room:1:*", "1-2", true);
  link.message("room:1:a", "1-3");
  const [again] = link.taken("publish");
  assert.equal(again?.id, "m1", "what had no answer is published again under its id");
  link.frame({ type: "ack", channel: "room:1:a", payload: { level: "durable", duplicate: true }, position: "1-3", correlation_id: again?.correlation_id });
  assert.equal((await publishing).duplicate, true);
  await origin.settled();
  assert.deepEqual([two.seen, three.seen], [["1-2", "1-3"], ["1-2", "1-3"]]);
  two.client.close();
  three.client.close();
  await origin.settled();
  assert.equal(origin.environment.pending, 0);
});

test("a tab that crashes is forgotten, and replaced if it had the connection", async () => {
  const origin = new Origin();
  const [one, two, three] = [origin.tab(), origin.tab(), origin.tab()];
  follow(one, "room:1");
  follow(two, "room:2");
  follow(three, "room:3");
  await origin.settled();
  one.transport.last.welcome();
  await origin.settled();
  two.crash();
  await origin.settled();
  assert.deepEqual(one.transport.last.taken("unsubscribe").map(({ channel }) => channel), ["room:2"]);
  one.crash();
  await origin.settled();
  assert.equal(three.transport.links.length, 1);
  three.transport.last.welcome();
  await origin.settled();
  assert.deepEqual(three.transport.last.taken("subscribe").map(({ channel }) => channel), ["room:3"]);
  for (const { client } of [one, two, three]) client.close();
});

test("while the connection is away, every tab knows", async () => {
  const origin = new Origin();
  const [one, two] = [origin.tab(), origin.tab()];
  follow(two, "room:1");
  await origin.settled();
  one.transport.last.welcome();
  await origin.settled();
  one.transport.last.subscribed("room:1", "1-1");
  one.transport.last.closed();
  await origin.settled();
  assert.equal(inState(two.client, "connected").degraded, true);
  await origin.environment.advance(100);
  assert.deepEqual(one.transport.last.request.channels, [{ channel: "room:1", position: "1-1" }]);
  one.transport.last.welcome();
  await origin.settled();
  assert.equal(inState(two.client, "connected").degraded, false);
  one.transport.last.closed({ code: 4505, reason: "disconnected by an operator" });
  await origin.settled();
  assert.equal(inState(two.client, "closed").reason.code, 4505);
  assert.equal(inState(one.client, "closed").reason.code, 4505);
  two.client.connect();
  await origin.settled();
  inState(two.client, "connecting");
  one.client.close();
  two.client.close();
});

test("members are told to every tab that asks, refusals to the one that asked", async () => {
  const origin = new Origin();
  const [one, two] = [origin.tab(), origin.tab()];
  await origin.settled();
  one.transport.last.welcome();
  await origin.settled();
  const list = (link = one.transport.last) => {
    for (const { channel, correlation_id } of link.taken("presence")) {
      link.frame({ type: "presence", channel: "room:1", payload: { count: 1, members: [{ user: "alice", since: "2026-11-20T12:00:00.000Z" }], stale: false }, correlation_id });
      assert.equal(channel, "room:1");
    }
  };
  const here = [one, two].map(({ client }) => presence(client, "room:1"));
  await origin.settled();
  list();
  await origin.settled();
  assert.deepEqual(here.map(({ count }) => count), [1, 1]);
  one.transport.last.frame({ type: "left", channel: "room:1", payload: { user: "alice", count: 0 } });
  await origin.settled();
  assert.deepEqual(here.map(({ count }) => count), [0, 0]);
  follow(two, "user:bob");
  await origin.settled();
  const asked = one.transport.last.sent.find(({ channel }) => channel === "user:bob");
  one.transport.last.frame({ type: "error", channel: "user:bob", payload: { code: "forbidden", message: "no", retryable: false }, correlation_id: asked?.correlation_id });
  await origin.settled();
  assert.deepEqual([one.seen, two.seen], [[], ["forbidden"]]);
  one.client.close();
  two.client.close();
});

test("a page in the browser's cache gives the connection away, and takes part again", async () => {
  const origin = new Origin();
  const [one, two] = [origin.tab(), origin.tab()];
  follow(one, "room:1");
  await origin.settled();
  one.transport.last.welcome();
  await origin.settled();
  one.transport.last.subscribed("room:1", "1-1");
  await origin.settled();
  one.signal("suspend");
  await origin.settled();
  assert.ok(one.transport.last.isClosed);
  assert.equal(two.transport.links.length, 1, "the other tab connects");
  two.transport.last.welcome();
  await origin.settled();
  inState(two.client, "connected");
  assert.deepEqual(two.transport.last.taken("subscribe"), [], "the page is not there");
  one.signal("resume");
  await origin.settled();
  assert.equal(one.transport.links.length, 1);
  assert.deepEqual(two.transport.last.taken("subscribe").map(({ channel, position }) => [channel, position]), [["room:1", "1-1"]]);
  two.client.close();
  await origin.settled();
  assert.equal(one.transport.links.length, 2, "and may have the connection again");
  one.client.close();
});

test("where there are no locks, each tab connects by itself", async () => {
  const environment = new VirtualEnvironment();
  const transport = new ScriptedTransport();
  const client = connectTabs("ws://gateway.test", { token: "t", transport, environment, channel: () => new Channels().open() });
  await environment.advance(0);
  assert.equal(transport.last.request.token, "t");
  client.close();
});
