// A state that is loaded, and then kept current by messages.
import assert from "node:assert/strict";
import { test } from "node:test";

import { subscribeState, type LiveState, type Snapshot } from "../src/snapshot.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

/** A backend whose answers the test gives. */
class Backend {
  readonly asked: { resolve(snapshot: Snapshot<string[]>): void; reject(error: Error): void; signal: AbortSignal }[] = [];

  snapshot(signal: AbortSignal): Promise<Snapshot<string[]>> {
    return new Promise((resolve, reject) => this.asked.push({ resolve, reject, signal }));
  }

  async answer(position: string): Promise<void> {
    this.asked.at(-1)!.resolve({ state: [`to ${position}`], position });
    await settle();
  }
}

async function begin() {
  const backend = new Backend();
  const { client, environment, transport, errors } = await stage();
  const live: LiveState<string[]> = subscribeState<string[]>(client, "room:1:*", {
    snapshot: (signal) => backend.snapshot(signal),
    apply: (state, { position, payload }) => {
      if (payload === "bad") throw new Error("bad payload");
      return [...state, String(position)];
    },
  });
  const failures: unknown[] = [];
  live.on("error", (error) => failures.push(error));
  transport.last.welcome();
  return { backend, client, environment, transport, live, failures, errors };
}

const gap = (after: string, upto: string | null) => ({ type: "gap", channel: "room:1:*", payload: { after, upto, reason: "expired", certain: true } });

test("the state is loaded first, and continued from its position", async () => {
  const { backend, client, transport, live } = await begin();
  assert.deepEqual([live.state, live.status, transport.last.taken("subscribe")], [null, "loading", []]);
  let changes = 0;
  live.on("change", () => changes++);
  await backend.answer("1-5");
  assert.deepEqual(transport.last.taken("subscribe").map(({ position }) => position), ["1-5"]);
  transport.last.subscribed("room:1:*", "1-5", true);
  transport.last.message("room:1:a", "1-6");
  assert.deepEqual([live.state, live.status, changes], [["to 1-5", "1-6"], "live", 2]);
  client.close();
});

test("after a gap it is loaded once, and what came meanwhile is applied", async () => {
  const { backend, client, transport, live } = await begin();
  await backend.answer("1-5");
  transport.last.subscribed("room:1:*", "1-20");
  transport.last.frame(gap("1-5", "1-20"));
  assert.deepEqual([live.state, live.status], [["to 1-5"], "stale"]);
  transport.last.message("room:1:a", "1-21");
  transport.last.frame(gap("1-21", "1-30"));
  transport.last.message("room:1:a", "1-31");
  transport.last.message("room:1:a", "1-33");
  assert.equal(backend.asked.length, 2, "one load at a time");
  await backend.answer("1-32");
  assert.deepEqual([live.state, live.status], [["to 1-32", "1-33"], "live"]);
  assert.equal(backend.asked.length, 2, "it is newer than the second gap");
  client.close();
});

test("a snapshot from before a second gap is loaded again", async () => {
  const { backend, client, transport, live } = await begin();
  await backend.answer("1-5");
  transport.last.frame(gap("1-5", "1-20"));
  transport.last.frame(gap("1-20", "1-30"));
  await backend.answer("1-25");
  assert.deepEqual([live.status, backend.asked.length], ["stale", 3]);
  await backend.answer("1-30");
  assert.deepEqual([live.state, live.status], [["to 1-30"], "live"]);
  client.close();
});

test("a snapshot that is older than the gap's end is continued from its position, once", async () => {
  const { backend, client, environment, transport, live } = await begin();
  await backend.answer("1-5");
  transport.last.subscribed("room:1:*", "1-5", true);
  transport.last.frame(gap("1-5", "1-20"));
  await backend.answer("1-18");
  await environment.advance(0);
  assert.deepEqual(transport.last.request.channels, [{ channel: "room:1:*", position: "1-18" }]);
  transport.last.welcome();
  transport.last.subscribed("room:1:*", "1-20");
  transport.last.frame(gap("1-18", "1-20"));
  await backend.answer("1-18");
  await environment.advance(0);
  assert.equal(transport.links.length, 2, "nothing newer is to be had: it is taken as it is");
  transport.last.message("room:1:a", "1-21");
  assert.deepEqual([live.state, live.status], [["to 1-18", "1-21"], "live"]);
  client.close();
});

test("a snapshot that fails is loaded again, later and later", async () => {
  const { backend, client, environment, live, failures } = await begin();
  for (let n = 1; n <= 5; n++) {
    backend.asked.at(-1)!.reject(new Error("busy"));
    await environment.advance(30_000);
    assert.equal(backend.asked.length, n + 1);
  }
  await backend.answer("position?");
  assert.match(String(failures.at(-1)), /needs its position/);
  await environment.advance(30_000);
  await backend.answer("1-5");
  assert.deepEqual([live.status, failures.length], ["live", 6]);
  client.close();
});

test("a message that cannot be applied stops nothing", async () => {
  const { backend, client, transport, live, failures } = await begin();
  await backend.answer("1-5");
  transport.last.subscribed("room:1:*", "1-5", true);
  transport.last.message("room:1:a", "1-6", "bad");
  transport.last.message("room:1:a", "1-7");
  assert.deepEqual([live.state, failures.map(String)], [["to 1-5", "1-7"], ["Error: bad payload"]]);
  client.close();
});

test("more messages than are kept are loaded", async () => {
  const { backend, client, transport, live } = await begin();
  await backend.answer("1-5");
  transport.last.frame(gap("1-5", "1-20"));
  for (let n = 21; n < 21 + 10_010; n++) transport.last.message("room:1:a", `1-${n}`);
  await backend.answer("1-25");
  assert.deepEqual([live.status, backend.asked.length], ["stale", 3]);
  await backend.answer("1-10025");
  assert.deepEqual(live.state, ["to 1-10025", "1-10026", "1-10027", "1-10028", "1-10029", "1-10030"]);
  client.close();
});

test("closing ends the load and the subscription", async () => {
  const { backend, client, environment, transport, live } = await begin();
  live.close();
  assert.ok(backend.asked[0]!.signal.aborted);
  await backend.answer("1-5");
  assert.deepEqual([live.status, live.state, transport.last.taken("subscribe")], ["closed", null, []]);
  const other = subscribeState<string[]>(client, "room:2", { snapshot: () => Promise.reject(new Error("busy")), apply: () => {} });
  await settle();
  other.close();
  client.close();
  assert.equal(environment.pending, 0);
});
