// Publishing: order, ids, and what is known of a message that has no answer.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ClosedError, QueueFullError, UnknownOutcomeError } from "../src/error.js";
import type { ClientFrame } from "../src/frame.js";
import type { Ack, QueuedMessage } from "../src/publish_queue.js";
import { ForbiddenError } from "../src/protocol.js";
import type { ScriptedLink } from "./scripted_transport.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

const ack = (link: ScriptedLink, frame: ClientFrame | undefined, fields: object = {}) => {
  assert.ok(frame);
  const { channel, correlation_id } = frame;
  link.frame({ type: "ack", channel, payload: { level: "durable" }, position: "1-1", correlation_id, ...fields });
};
const refuse = (link: ScriptedLink, frame: ClientFrame | undefined, code: string, retryable: boolean, retry_after_ms?: number) => {
  assert.ok(frame);
  const { channel, correlation_id } = frame;
  link.frame({ type: "error", channel, payload: { code, message: code, retryable, retry_after_ms }, correlation_id });
};
/** What became of a promise, as far as it is known. */
function outcome<T>(promise: Promise<T>): { value?: T; error?: unknown } {
  const known: { value?: T; error?: unknown } = {};
  promise.then((value) => (known.value = value), (error) => (known.error = error));
  return known;
}

test("a message waits for the connection, and its promise says what is true of it", async () => {
  const { client, transport } = await stage();
  const answer = client.publish("room:1", { n: 1 }, { event: "said", id: "m1", correlationId: "c1" });
  assert.deepEqual(transport.last.taken("publish"), []);
  transport.last.welcome();
  const [frame] = transport.last.taken("publish");
  assert.deepEqual(JSON.parse(JSON.stringify(frame)), { type: "publish", channel: "room:1", event: "said", payload: { n: 1 }, id: "m1", correlation_id: "c1" });
  ack(transport.last, frame, { payload: { level: "local", duplicate: true }, position: undefined });
  assert.deepEqual(await answer, { id: "m1", level: "local", position: null, duplicate: true } satisfies Ack);
  client.close();
});

test("messages without an answer are sent again under their ids, in their order", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  const answers = ["a", "b", "c"].map((id) => client.publish("room:1", id, { id }));
  const first = transport.last.taken("publish");
  assert.deepEqual(first.map(({ id }) => id), ["a", "b", "c"]);
  ack(transport.last, first[0]);
  transport.last.closed();
  await environment.advance(100);
  transport.last.welcome();
  const again = transport.last.taken("publish");
  assert.deepEqual(again.map(({ id }) => id), ["b", "c"]);
  again.forEach((frame) => ack(transport.last, frame));
  assert.deepEqual((await Promise.all(answers)).map(({ id }) => id), ["a", "b", "c"]);
  client.close();
});

test("a payload that changes after publish() is sent as it was", async () => {
  const { client, transport } = await stage();
  const [json, bytes] = [{ n: 1 }, Uint8Array.of(1)];
  client.publish("room:1", json).catch(() => {});
  client.publish("room:1", bytes).catch(() => {});
  [json.n, bytes[0]] = [2, 2];
  transport.last.welcome();
  assert.deepEqual(transport.last.taken("publish").map(({ payload }) => payload), [{ n: 1 }, Uint8Array.of(1)]);
  await assert.rejects(client.publish("room:1", 1n), TypeError);
  client.close();
});

test("after two minutes nobody knows whether a message was stored", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  const answer = outcome(client.publish("room:1", 1, { id: "m1" }));
  const twice = outcome(client.publish("room:1", 1, { id: "m2", allowTwice: true }));
  transport.last.closed();
  const never = outcome(client.publish("room:1", 1, { id: "m3" }));
  await environment.advance(109_000);
  assert.deepEqual(answer, {});
  await environment.advance(1_000);
  assert.ok(answer.error instanceof UnknownOutcomeError && answer.error.id === "m1");
  await environment.advance(3_600_000);
  while (client.state.name !== "connecting") await environment.advance(1_000);
  transport.last.welcome();
  await settle();
  assert.deepEqual(transport.last.taken("publish").map(({ id }) => id), ["m2", "m3"], "what was never sent waits without limit");
  assert.deepEqual([twice, never], [{}, {}]);
  client.close();
});

test("an answer of unknown is asked again, as long as the id is known", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  const answer = outcome(client.publish("room:1", 1, { id: "m1" }));
  for (let n = 0; n < 3; n++) {
    const [frame] = transport.last.taken("publish");
    refuse(transport.last, frame, "unknown", true);
    await environment.advance(1_000);
  }
  let seconds = 3;
  for (; answer.error === undefined; seconds++) {
    for (const frame of transport.last.taken("publish")) refuse(transport.last, frame, "unavailable", true, 500);
    await environment.advance(1_000);
  }
  assert.ok(answer.error instanceof UnknownOutcomeError);
  assert.ok(seconds >= 109 && seconds <= 112, `${seconds} s after the first attempt`);
  client.close();
});

test("what was not stored is sent again without limit", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  const answer = outcome(client.publish("room:1", 1));
  for (let n = 0; n < 200; n++) {
    for (const frame of transport.last.taken("publish")) refuse(transport.last, frame, "unavailable", true, 1_000);
    await environment.advance(1_000);
  }
  assert.deepEqual(answer, {});
  const [frame] = transport.last.taken("publish");
  ack(transport.last, frame);
  await settle();
  assert.equal(answer.value?.level, "durable");
  client.close();
});

test("a refused message keeps its place in its scope, and does not stop others", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  for (const [channel, id] of [["system:a", "s1"], ["room:1:x", "r1"], ["room:1:y", "r2"]] as const) client.publish(channel, 1, { id }).catch(() => {});
  const [s1, r1, r2] = transport.last.taken("publish");
  refuse(transport.last, r1, "unavailable", true, 1_000);
  client.publish("room:1:x", 1, { id: "r3" }).catch(() => {});
  client.publish("system:a", 1, { id: "s2" }).catch(() => {});
  assert.deepEqual(transport.last.taken("publish").map(({ id }) => id), ["s2"]);
  await environment.advance(1_000);
  assert.deepEqual(transport.last.taken("publish"), [], "r2 has no answer yet");
  ack(transport.last, r2);
  assert.deepEqual(transport.last.taken("publish").map(({ id }) => id), ["r1", "r3"]);
  ack(transport.last, s1);
  client.close();
});

test("refusals reject, with their class", async () => {
  const { client, transport, errors } = await stage();
  transport.last.welcome();
  const answer = client.publish("room:1", 1);
  refuse(transport.last, transport.last.taken("publish")[0], "forbidden", false);
  await assert.rejects(answer, (error) => error instanceof ForbiddenError && error.code === "forbidden" && error.channel === "room:1");
  assert.deepEqual(errors, [], "nobody else is told");
  client.close();
});

test("an expired token is renewed, and the message sent again", async () => {
  let count = 0;
  const { client, environment, transport } = await stage({ token: async () => `token-${++count}` });
  transport.last.welcome();
  const answer = outcome(client.publish("room:1", 1));
  refuse(transport.last, transport.last.taken("publish")[0], "token_expired", false);
  assert.deepEqual(answer, {});
  transport.last.closed({ code: 4002 });
  await environment.advance(1_100);
  assert.equal(transport.last.request.token, "token-2");
  transport.last.welcome();
  await environment.advance(1_000);
  ack(transport.last, transport.last.taken("publish")[0]);
  await settle();
  assert.equal(answer.value?.level, "durable");
  client.close();
});

test("messages are sent no faster than the gateway takes them", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome({ messages_per_second: 10 });
  for (let n = 0; n < 50; n++) client.publish("room:1", n).catch(() => {});
  let sent = 0;
  for (let second = 0; sent < 50; second++) {
    sent += transport.last.taken("publish").length;
    assert.ok(sent <= 10 * (second + 1), `${sent} in ${second} s`);
    assert.ok(second <= 6, "and not much slower");
    await environment.advance(1_000);
  }
  client.publish("room:1", 50).catch(() => {});
  refuse(transport.last, transport.last.taken("publish")[0], "rate_limited", true, 3_000);
  client.publish("room:2", 51).catch(() => {});
  await environment.advance(2_999);
  assert.deepEqual(transport.last.taken("publish"), [], "the rate is the connection's");
  await environment.advance(1);
  assert.deepEqual(transport.last.taken("publish").map(({ payload }) => payload), [50, 51]);
  client.close();
});

test("a message that would end the connection is refused here", async () => {
  const { client, transport } = await stage();
  const large = outcome(client.publish("room:1", "é".repeat(1_000)));
  transport.last.welcome({ message_bytes_max: 2_000 });
  await settle();
  assert.equal((large.error as { code: string }).code, "too_big");
  await assert.rejects(client.publish("room:1", "x".repeat(2_000)), { code: "too_big" });
  client.publish("room:1", "x".repeat(1_500)).catch(() => {});
  assert.equal(transport.last.taken("publish").length, 1);
  client.close();
});

test("the queue is bounded", async () => {
  const { client } = await stage();
  for (let n = 0; n < 1_000; n++) client.publish("room:1", n).catch(() => {});
  await assert.rejects(client.publish("room:1", 1_000), QueueFullError);
  client.close();
  const other = await stage();
  const large = "x".repeat(1_000_000);
  for (let n = 0; n < 4; n++) other.client.publish("room:1", large).catch(() => {});
  await assert.rejects(other.client.publish("room:1", large), QueueFullError);
  other.client.close();
});

test("a message can be taken back as long as it was not sent", async () => {
  const { client, transport } = await stage();
  const controller = new AbortController();
  const waiting = client.publish("room:1", 1, { signal: controller.signal });
  controller.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  await assert.rejects(client.publish("room:1", 1, { signal: controller.signal }), { name: "AbortError" });
  transport.last.welcome();
  assert.deepEqual(transport.last.taken("publish"), []);
  const late = new AbortController();
  const sent = client.publish("room:1", 2, { signal: late.signal });
  late.abort();
  await assert.rejects(sent, UnknownOutcomeError);
  client.close();
});

test("closing rejects what waits: what was sent is unknown", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  const sent = client.publish("room:1", 1);
  transport.last.closed();
  const waiting = client.publish("room:1", 2);
  client.close();
  await assert.rejects(sent, UnknownOutcomeError);
  await assert.rejects(waiting, ClosedError);
  await assert.rejects(client.publish("room:1", 3), ClosedError);
});

test("a store keeps the queue over the end of a page", async () => {
  let kept: QueuedMessage[] = [];
  const queue = { load: () => kept, save: (messages: QueuedMessage[]) => (kept = structuredClone(messages)) };
  const one = await stage({ queue });
  one.transport.last.welcome();
  one.client.publish("room:1", "sent", { id: "m1" }).catch(() => {});
  one.transport.last.closed();
  one.client.publish("room:1", "waiting", { id: "m2" }).catch(() => {});
  await settle();
  const since = one.environment.date();
  assert.deepEqual(kept.map(({ id, uncertainSince }) => [id, uncertainSince]), [["m1", since], ["m2", null]]);
  one.client.close();
  assert.equal(kept.length, 2, "closing leaves the store");

  const two = await stage({ queue });
  const settled: string[] = [];
  two.client.on("settled", (outcome) => settled.push(`${outcome.id} ${"ack" in outcome ? outcome.ack.level : (outcome.error as { code?: string }).code}`));
  two.transport.last.welcome();
  await settle();
  const frames = two.transport.last.taken("publish");
  assert.deepEqual(frames.map(({ id, payload }) => [id, payload]), [["m1", "sent"], ["m2", "waiting"]]);
  frames.forEach((frame) => ack(two.transport.last, frame));
  await settle();
  assert.deepEqual([settled, kept], [["m1 durable", "m2 durable"], []]);
  two.client.close();

  kept = [{ id: "m3", channel: "room:1", payload: 1, correlationId: "c", uncertainSince: since - 115_000, allowTwice: false }];
  const outcomes: unknown[] = [];
  const three = await stage({ queue }, (client) => client.on("settled", (outcome) => outcomes.push("error" in outcome && outcome.error)));
  three.transport.last.welcome();
  assert.deepEqual(three.transport.last.taken("publish"), [], "its id may be forgotten");
  assert.ok(outcomes.length === 1 && outcomes[0] instanceof UnknownOutcomeError);
  three.client.close();
});
