// Subscriptions: one of the gateway for each channel, order, gaps, refusals.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Gap } from "../src/frame.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

const EXPIRED: Gap = { after: "1-1", upto: "1-9", reason: "expired", certain: true };

test("all subscriptions are asked for in one hello, later ones by frames", async () => {
  const { client, transport } = await stage({}, (client) => {
    client.subscribe("room:1", () => {});
    client.subscribe("room:2:*", () => {}, { position: "1-5" });
  });
  assert.deepEqual(transport.last.request.channels, [{ channel: "room:1", position: null }, { channel: "room:2:*", position: "1-5" }]);
  client.subscribe("room:3", () => {});
  assert.equal(transport.last.sent.length, 0, "not before the welcome");
  transport.last.welcome();
  assert.deepEqual(transport.last.taken("subscribe").map(({ channel }) => channel), ["room:3"]);
  client.subscribe("room:4", () => {});
  assert.deepEqual(transport.last.taken("subscribe").map(({ channel }) => channel), ["room:4"]);
  client.close();
});

test("two handles of one channel share it, and the last one ends it", async () => {
  const seen: string[] = [];
  const { client, transport } = await stage();
  transport.last.welcome();
  const one = client.subscribe("room:1", ({ position }) => seen.push(`1 ${position}`));
  transport.last.subscribed("room:1", "1-1");
  transport.last.message("room:1", "1-2");
  const two = client.subscribe("room:1", ({ position }) => seen.push(`2 ${position}`));
  await settle();
  assert.deepEqual([one.state, two.state, two.position], ["live", "live", "1-2"]);
  transport.last.message("room:1", "1-3");
  one.unsubscribe();
  transport.last.message("room:1", "1-4");
  await settle();
  assert.deepEqual(transport.last.taken("unsubscribe"), []);
  assert.equal(transport.last.taken("subscribe").length, 1);
  two.unsubscribe();
  two.unsubscribe();
  await settle();
  assert.deepEqual(transport.last.taken("unsubscribe").map(({ channel }) => channel), ["room:1"]);
  transport.last.message("room:1", "1-5");
  assert.deepEqual(seen, ["1 1-2", "1 1-3", "2 1-3", "2 1-4"]);
  client.close();
});

test("a page that is drawn anew keeps its subscription", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  client.subscribe("room:1", () => {}).unsubscribe();
  const again = client.subscribe("room:1", () => {});
  await settle();
  assert.deepEqual(transport.last.sent.map(({ type }) => type), ["subscribe"]);
  transport.last.subscribed("room:1", "1-1");
  assert.equal(again.state, "live");
  client.close();
});

test("a subscription that was given up before it began is ended when it begins", async () => {
  const { client, transport } = await stage({}, (client) => {
    const gone = client.subscribe("room:1", () => {});
    queueMicrotask(() => setImmediate(() => gone.unsubscribe()));
  });
  await settle();
  await settle();
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-1");
  assert.deepEqual(transport.last.taken("unsubscribe").map(({ channel }) => channel), ["room:1"]);
  client.close();
});

test("a channel that is given up and wanted again while the connection is opened", async () => {
  const seen: (string | undefined)[] = [];
  const { client, environment, transport, errors } = await stage({}, (client) => {
    const gone = client.subscribe("room:1", () => {});
    setImmediate(() => gone.unsubscribe());
  });
  await settle();
  await settle();
  client.subscribe("room:1", ({ position }) => seen.push(position), { position: "1-1" });
  await environment.advance(0);
  assert.equal(transport.links.length, 2, "its hello begins it now, not there");
  assert.deepEqual(transport.last.request.channels, [{ channel: "room:1", position: "1-1" }]);
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-1", true);
  transport.last.message("room:1", "1-2");
  assert.deepEqual(seen, ["1-2"]);
  transport.last.frame({ type: "error", channel: "room:9", payload: { code: "not_subscribed", message: "", retryable: false }, correlation_id: "unsubscribe" });
  assert.deepEqual(errors, []);
  client.close();
});

test("a connection that ends between subscribed and gap does not hide the gap", async () => {
  const { client, environment, transport } = await stage({}, (client) => client.subscribe("room:1", () => {}, { position: "1-1" }));
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-9");
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual(transport.last.request.channels.map(({ position }) => position), ["1-1"]);
  client.close();
});

test("a subscription that begins now gets nothing that came before it through another one", async () => {
  const seen: (string | undefined)[] = [];
  const { client, transport } = await stage({}, (client) => client.subscribe("room:1:*", () => {}));
  transport.last.welcome();
  transport.last.subscribed("room:1:*", "1-1");
  client.subscribe("room:1:a", ({ position }) => seen.push(position));
  transport.last.message("room:1:a", "1-2");
  transport.last.subscribed("room:1:a", "1-2");
  transport.last.message("room:1:a", "1-3");
  assert.deepEqual(seen, ["1-3"]);
  client.close();
});

test("a position that overlaps what is there is resumed together with it", async () => {
  const { client, environment, transport } = await stage({}, (client) => client.subscribe("room:1:*", () => {}));
  transport.last.welcome();
  transport.last.subscribed("room:1:*", "1-5");
  client.subscribe("room:2:a", () => {}, { position: "1-2" });
  assert.equal(transport.links.length, 1, "another scope");
  assert.deepEqual(transport.last.taken("subscribe").map(({ position }) => position), ["1-2"]);
  client.subscribe("room:1:a", () => {}, { position: "1-2" });
  await environment.advance(0);
  assert.equal(transport.links.length, 2);
  assert.ok(transport.links[0]!.isClosed);
  assert.deepEqual(transport.last.request.channels.map(({ position }) => position), ["1-5", "1-2", "1-2"]);
  client.close();
});

test("a second handle may begin earlier than the first", async () => {
  const seen: string[] = [];
  const { client, environment, transport } = await stage({}, (client) => client.subscribe("room:1", ({ position }) => seen.push(`1 ${position}`)));
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-5");
  client.subscribe("room:1", ({ position }) => seen.push(`2 ${position}`), { position: "1-3" });
  await environment.advance(0);
  assert.deepEqual(transport.last.request.channels, [{ channel: "room:1", position: "1-3" }]);
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-3", true);
  for (const position of ["1-4", "1-5", "1-6"]) transport.last.message("room:1", position);
  assert.deepEqual(seen, ["2 1-4", "2 1-5", "1 1-6", "2 1-6"]);
  client.close();
});

test("a gap is reported, also if the history went back", async () => {
  const seen: (string | undefined)[] = [];
  const gaps: Gap[] = [];
  const { client, environment, transport } = await stage({}, (client) => {
    client.subscribe("room:1", ({ position }) => seen.push(position), { position: "7-5" }).on("gap", (gap) => gaps.push(gap));
  });
  transport.last.welcome();
  transport.last.subscribed("room:1", "6-9");
  const back: Gap = { after: "7-5", upto: "6-9", reason: "failover", certain: false };
  transport.last.frame({ type: "gap", channel: "room:1", payload: back });
  transport.last.message("room:1", "6-10");
  assert.deepEqual([gaps, seen], [[back], ["6-10"]]);
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual(transport.last.request.channels, [{ channel: "room:1", position: "6-10" }], "the next connection continues there");
  client.close();
});

test("a gap without an end moves nothing", async () => {
  const gaps: Gap[] = [];
  const { client, transport } = await stage();
  const subscription = client.subscribe("room:1", () => {}, { position: "1-5" });
  subscription.on("gap", (gap) => gaps.push(gap));
  transport.last.welcome();
  transport.last.frame({ type: "gap", channel: "room:1", payload: { after: "1-5", upto: null, reason: "moved", certain: false } });
  assert.equal(subscription.position, "1-5");
  assert.equal(gaps.length, 1);
  client.close();
});

test("a handle that is ahead is not sent back by the gap of one that is behind", async () => {
  const gaps: string[] = [];
  const { client, transport } = await stage({}, (client) => {
    client.subscribe("room:1", () => {}, { position: "1-20" }).on("gap", () => gaps.push("ahead"));
    client.subscribe("room:1", () => {}, { position: "1-1" }).on("gap", () => gaps.push("behind"));
  });
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-9");
  transport.last.frame({ type: "gap", channel: "room:1", payload: EXPIRED });
  assert.deepEqual(gaps, ["behind"]);
  client.close();
});

test("what came between two beginnings without a position is not known", async () => {
  const events: string[] = [];
  const { client, environment, transport } = await stage({}, (client) => {
    const subscription = client.subscribe("room:1", ({ payload }) => events.push(String(payload)));
    subscription.on("subscribed", ({ degraded }) => events.push(degraded ? "degraded" : "live"));
    subscription.on("gap", ({ reason }) => events.push(reason));
  });
  transport.last.welcome();
  transport.last.subscribed("room:1", null);
  transport.last.message("room:1", undefined, "local");
  transport.last.closed();
  await environment.advance(100);
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-5");
  assert.deepEqual(events, ["degraded", "local", "live", "unconfirmed"]);
  client.close();
  // On one connection, the gateway itself says what is missing.
  const other = await stage({}, (client) => {
    client.subscribe("room:1", () => {}).on("gap", () => assert.fail("nothing is missing"));
  });
  other.transport.last.welcome();
  other.transport.last.subscribed("room:1", null);
  other.transport.last.subscribed("room:1", "1-5");
  other.client.close();
});

test("a refused subscription fails, and is asked for again with the next connection", async () => {
  const { client, environment, transport } = await stage();
  const codes: string[] = [];
  const subscription = client.subscribe("room:1", () => {});
  subscription.on("error", ({ code }) => codes.push(code));
  transport.last.welcome();
  const [{ correlation_id } = {}] = transport.last.taken("subscribe");
  const refused = (code: string, retryable: boolean, id = correlation_id) =>
    transport.last.frame({ type: "error", channel: "room:1", payload: { code, message: "", retryable, retry_after_ms: retryable ? 500 : undefined }, correlation_id: id });
  refused("not_subscribed", false, "of somebody else");
  assert.equal(subscription.state, "pending");
  refused("forbidden", false);
  assert.deepEqual([subscription.state, codes], ["failed", ["forbidden"]]);
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual(transport.last.request.channels.map(({ channel }) => channel), ["room:1"], "the token may be another one");
  transport.last.welcome();
  refused("unavailable", true, transport.last.request.correlationId);
  assert.equal(subscription.state, "pending");
  await environment.advance(1_000);
  assert.equal(transport.last.taken("subscribe").length, 1);
  transport.last.subscribed("room:1", "1-1");
  // A refresh takes the grant away: no frame is answered.
  transport.last.frame({ type: "error", channel: "room:1", payload: { code: "forbidden", message: "", retryable: false } });
  assert.deepEqual([subscription.state, codes.length], ["failed", 2]);
  client.close();
});

test("an expired token costs no subscription", async () => {
  const { client, environment, transport, errors } = await stage();
  transport.last.welcome();
  const subscription = client.subscribe("room:1", () => {});
  const [{ correlation_id } = {}] = transport.last.taken("subscribe");
  transport.last.frame({ type: "error", channel: "room:1", payload: { code: "token_expired", message: "", retryable: false }, correlation_id });
  assert.equal(subscription.state, "pending");
  await environment.advance(2_000);
  assert.deepEqual(transport.last.taken("subscribe").map(({ channel }) => channel), ["room:1"]);
  // The gateway says it without being asked, and waits for a new token.
  transport.last.frame({ type: "error", payload: { code: "token_expired", message: "", retryable: false } });
  await environment.advance(0);
  assert.equal(transport.last.taken("refresh").length, 1);
  assert.deepEqual(errors, []);
  client.close();
});

test("a refusal that nobody listens to reaches the client's listeners", async () => {
  const { client, transport, errors } = await stage({}, (client) => client.subscribe("room:1", () => {}));
  transport.last.welcome();
  transport.last.frame({ type: "error", channel: "room:1", payload: { code: "forbidden", message: "no", retryable: false }, correlation_id: transport.last.request.correlationId });
  assert.deepEqual(errors.map((error) => (error as { code: string }).code), ["forbidden"]);
  client.close();
});

test("a handler that fails stops nothing", async () => {
  const seen: unknown[] = [];
  const { client, transport, errors } = await stage({}, (client) => {
    client.subscribe("room:1", () => { throw new Error("mine"); });
    client.subscribe("room:1", async () => { throw new Error("later"); });
    client.subscribe("room:1", ({ position }) => seen.push(position));
  });
  transport.last.welcome();
  transport.last.subscribed("room:1", "1-1");
  transport.last.message("room:1", "1-2");
  await settle();
  assert.deepEqual(seen, ["1-2"]);
  assert.deepEqual(errors.map((error) => (error as Error).message), ["mine", "later"]);
  client.close();
});

test("what cannot be subscribed to is refused at once", async () => {
  const { client } = await stage();
  assert.throws(() => client.subscribe("room:1", () => {}, { position: "7" }), TypeError);
  assert.throws(() => client.subscribe("r".repeat(257), () => {}), RangeError);
  client.close();
});
