// What survives a page.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { QueuedMessage } from "../src/publish_queue.js";
import { positionStore, queueStore } from "../src/store.js";

function storage(kept: Record<string, string> = {}) {
  return { kept, getItem: (key: string) => kept[key] ?? null, setItem: (key: string, value: string) => void (kept[key] = value) };
}

test("a queue is written down with JSON and bytes", async () => {
  const message = { channel: "room:1", event: "said", correlationId: "c", uncertainSince: null, allowTwice: false };
  const messages: QueuedMessage[] = [
    { ...message, id: "a", payload: { text: "é" }, uncertainSince: 5 },
    { ...message, id: "b", payload: Uint8Array.of(0, 255, 7) },
    { ...message, id: "c", payload: null },
  ];
  const kept = storage();
  queueStore(kept).save(messages);
  assert.deepEqual(await queueStore(kept).load(), messages);
  assert.deepEqual(await queueStore(kept, "another").load(), []);
});

test("positions are written down by channel", () => {
  const kept = storage();
  const positions = positionStore(kept);
  positions.set("room:1", "1-1");
  positions.set("room:1", "1-2");
  positions.set("room:2", "1-9");
  assert.deepEqual(["room:1", "room:2", "room:3"].map((channel) => positionStore(kept).get(channel)), ["1-2", "1-9", null]);
});

test("what somebody else has written is not used", async () => {
  for (const text of ["no JSON", "null", '{"room:1":7}', '{"room:1":"7"}']) {
    assert.equal(positionStore(storage({ "tidegate.positions": text })).get("room:1"), null, text);
  }
  assert.deepEqual(await queueStore(storage({ "tidegate.queue": "no JSON" })).load(), []);
});
