// Connecting, losing the connection, and coming back, in virtual time.
import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/client.js";
import { ClosedError, type GatewayError } from "../src/error.js";
import { inState, stage } from "./stage.js";
import { WELCOME } from "./scripted_transport.js";
import { settle, VirtualEnvironment } from "./virtual_environment.js";

const names = (states: { name: string }[]) => states.map(({ name }) => name);

test("the states of a connection that is lost, and closed", async () => {
  const { client, environment, transport, states } = await stage();
  inState(client, "connecting");
  transport.last.welcome();
  assert.deepEqual(client.state, { name: "connected", transport: "scripted", session: WELCOME, degraded: false });
  transport.last.frame({ type: "degraded", payload: { degraded: true } });
  assert.ok(inState(client, "connected").degraded);
  transport.last.closed();
  const waiting = inState(client, "waiting");
  assert.equal(waiting.reason.code, 1006);
  assert.ok(waiting.until - environment.date() <= 100);
  await environment.advance(100);
  inState(client, "connecting");
  transport.last.welcome();
  client.close();
  assert.ok(transport.last.isClosed);
  assert.deepEqual(names(states), ["connected", "connected", "waiting", "connecting", "connected", "closed"]);
  assert.equal(environment.pending, 0, "a closed client waits for nothing");
  assert.equal(environment.watchers, 0);
});

test("the session continues, with a token that is fetched for each attempt", async () => {
  const tokens = ["a", "b"];
  const { client, environment, transport } = await stage({ token: async () => tokens.shift()! });
  assert.deepEqual([transport.last.request.token, transport.last.request.sessionId], ["a", null]);
  transport.last.welcome({ session_id: "s1" });
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual([transport.last.request.token, transport.last.request.sessionId], ["b", "s1"]);
  client.close();
});

test("a link that is over says nothing any more", async () => {
  const { client, environment, transport, states } = await stage();
  transport.last.welcome();
  const stale = transport.last;
  stale.closed();
  await environment.advance(100);
  transport.last.welcome({ instance: "gw-2" });
  const count = states.length;
  stale.closed();
  stale.welcome({ instance: "gw-1" });
  stale.frame({ type: "bye", payload: { code: 4500, reason: "", reconnect: false } });
  assert.equal(states.length, count);
  assert.equal(inState(client, "connected").session.instance, "gw-2");
  client.close();
});

test("final codes close the client, others do not", async () => {
  for (const [code, name] of [[4504, "closed"], [4505, "closed"], [1000, "closed"], [1009, "closed"], [1012, "waiting"], [4000, "waiting"], [4999, "closed"], [4499, "waiting"]] as const) {
    const { client, transport } = await stage();
    transport.last.welcome();
    transport.last.closed({ code, reason: "why" });
    assert.equal(inState(client, name).reason.code, code);
    client.close();
  }
});

test("a bye counts, whatever the close that follows it", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  transport.last.frame({ type: "error", payload: { code: "unauthenticated", message: "no key has this kid", retryable: false } });
  transport.last.frame({ type: "bye", payload: { code: 4505, reason: "disconnected by an operator", reconnect: false } });
  transport.last.closed({ code: 1006 });
  const { reason } = inState(client, "closed");
  assert.equal(reason.code, 4505);
  assert.equal((reason.error as GatewayError).code, "unauthenticated", "what the gateway said before");
  client.connect();
  await settle();
  assert.equal(transport.links.length, 2, "connect() tries again");
  client.close();
});

test("the gateway's delays count", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  transport.last.frame({ type: "reconnect", payload: { after_ms: 2_500 } });
  transport.last.closed({ code: 1012 });
  await environment.advance(2_499);
  assert.equal(transport.links.length, 1);
  await environment.advance(1);
  assert.equal(transport.links.length, 2);
  transport.last.frame({ type: "error", payload: { code: "unavailable", message: "full", retryable: true, retry_after_ms: 7_000 } });
  transport.last.closed({ code: 1013 });
  await environment.advance(6_999);
  assert.equal(transport.links.length, 2);
  await environment.advance(1_000);
  assert.equal(transport.links.length, 3);
  client.close();
});

test("failures in a row wait longer, and a settled connection begins anew", async () => {
  const environment = new VirtualEnvironment();
  environment.fixed = 0.9999999;
  const { client, transport } = await stage({ environment });
  const wait = async (code = 1006) => {
    transport.last.closed({ code });
    const ms = inState(client, "waiting").until - environment.date();
    await environment.advance(ms);
    return ms;
  };
  assert.deepEqual([await wait(), await wait(), await wait(), await wait()], [99, 999, 1_999, 3_999]);
  transport.last.welcome();
  assert.equal(await wait(), 7_999, "a welcome alone does not end the row: the instance may fail right after it");
  transport.last.welcome();
  await environment.advance(5_000);
  assert.equal(await wait(), 99);
  assert.equal(await wait(4005), 29_999, "too many connections: another one has to end first");
  client.close();
});

test("an attempt without a welcome ends", async () => {
  const { client, environment, transport } = await stage();
  await environment.advance(10_000);
  assert.ok(transport.last.isClosed || transport.links[0]!.isClosed);
  assert.notEqual(client.state.name, "connected");
  client.close();
});

test("a token that cannot be fetched is tried again, one that is null closes the client", async () => {
  let fails = 2;
  const { client, environment, transport, states } = await stage({
    token: async () => {
      if (fails-- > 0) throw new Error("no network");
      return "token";
    },
  });
  assert.equal(inState(client, "waiting").reason.message, "no network");
  await environment.advance(5_000);
  assert.equal(transport.links.length, 1);
  client.close();
  const out = await stage({ token: () => null });
  assert.equal(inState(out.client, "closed").reason.message, "signed out");
  assert.equal(out.transport.links.length, 0);
  assert.ok(states.length > 0);
});

test("a callback that never answers has failed after 20 s", async () => {
  const { client, environment } = await stage({ token: () => new Promise(() => {}) });
  await environment.advance(19_999);
  inState(client, "connecting");
  await environment.advance(1);
  inState(client, "waiting");
  client.close();
});

test("a token is renewed before it expires", async () => {
  let count = 0;
  const { client, environment, transport } = await stage({ token: async () => `token-${++count}` });
  transport.last.welcome({ expires_in_ms: 300_000 });
  await environment.advance(239_000);
  assert.equal(count, 1);
  while (transport.last.sent.every(({ type }) => type !== "refresh")) await environment.advance(100);
  assert.ok(environment.now() <= 270_000);
  assert.deepEqual(transport.last.taken("refresh").map(({ payload }) => payload), [{ token: "token-2" }]);
  transport.last.frame({ type: "refreshed", payload: { expires_in_ms: 300_000 } });
  await environment.advance(230_000);
  assert.equal(count, 2, "the answer ends the attempts, and names the next time");
  // The token at hand is known to be valid: a lost connection does not cost another one.
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual([transport.last.request.token, count], ["token-2", 2]);
  client.close();
});

test("renewing is tried again while the token lasts", async () => {
  let count = 0;
  const { client, environment, transport } = await stage({
    token: async () => {
      if (++count === 2) throw new Error("busy");
      return `token-${count}`;
    },
  });
  transport.last.welcome({ expires_in_ms: 60_000 });
  await environment.advance(45_000);
  assert.equal(transport.last.taken("refresh").length >= 1, true);
  client.close();
});

test("an expired or refused token is not used again", async () => {
  for (const code of [4002, 4500]) {
    let count = 0;
    const { client, environment, transport } = await stage({ token: async () => `token-${++count}` });
    transport.last.welcome({ expires_in_ms: 300_000 });
    transport.last.closed();
    await environment.advance(100);
    assert.equal(transport.last.request.token, "token-1");
    transport.last.closed({ code });
    inState(client, "waiting");
    await environment.advance(1_000);
    assert.equal(transport.last.request.token, "token-2");
    transport.last.closed({ code: 4500 });
    inState(client, "closed");
    client.close();
  }
});

test("a fixed token that has expired closes the client", async () => {
  const { client, transport } = await stage({ token: "fixed" });
  transport.last.welcome();
  transport.last.closed({ code: 4002 });
  inState(client, "closed");
});

test("a dead connection is noticed by a ping without an answer", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  transport.last.isDead = true;
  await environment.advance(29_000);
  transport.last.message("x:1", "1-1");
  await environment.advance(29_000);
  assert.equal(transport.last.taken("ping").length, 0, "something came");
  await environment.advance(1_000);
  assert.equal(transport.last.taken("ping").length, 1);
  transport.last.frame({ type: "pong" });
  await environment.advance(30_000);
  assert.equal(transport.last.taken("ping").length, 1);
  await environment.advance(9_999);
  inState(client, "connected");
  await environment.advance(1);
  inState(client, "waiting");
  assert.ok(transport.links[0]!.isClosed);
  client.close();
});

test("a machine that has slept asks at once, and does not wait long", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  transport.last.isDead = true;
  await environment.sleep(3_600_000);
  assert.equal(transport.last.taken("ping").length, 1);
  await environment.advance(4_000);
  inState(client, "waiting");
  client.close();
});

test("a page that is shown again, or whose network has changed, asks at once", async () => {
  for (const signal of ["visible", "online", "offline", "resume"] as const) {
    const { client, environment, transport } = await stage();
    transport.last.welcome();
    environment.signal(signal);
    assert.equal(transport.last.taken("ping").length, 1, signal);
    await environment.advance(20_000);
    inState(client, "connected");
    client.close();
  }
});

test("the network comes back while the client waits", async () => {
  const environment = new VirtualEnvironment();
  environment.fixed = 0.999;
  const { client, transport } = await stage({ environment });
  for (let n = 0; n < 8; n++) {
    transport.last.closed();
    if (n < 7) await environment.advance(30_000);
  }
  inState(client, "waiting");
  const count = transport.links.length;
  environment.signal("online");
  await settle();
  assert.equal(transport.links.length, count + 1);
  client.close();
});

test("a page in the browser's cache has no connection, and comes back when it is shown", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  environment.signal("suspend");
  assert.ok(transport.last.isClosed);
  inState(client, "waiting");
  environment.signal("resume");
  await settle();
  assert.equal(transport.links.length, 2);
  client.close();
  environment.signal("resume");
  await settle();
  assert.equal(transport.links.length, 2, "a closed client stays closed");
});

test("where a proxy cuts idle connections, the client pings earlier", async () => {
  const { client, environment, transport } = await stage();
  transport.last.welcome();
  await environment.advance(20_000);
  transport.last.closed();
  await environment.advance(100);
  transport.last.welcome();
  await environment.advance(14_999);
  assert.equal(transport.last.taken("ping").length, 0);
  await environment.advance(1);
  assert.equal(transport.last.taken("ping").length, 1);
  client.close();
});

test("requests of extensions are answered, refused, or end with the connection", async () => {
  const { client, transport } = await stage();
  await assert.rejects(client.request({ type: "presence", channel: "room:1" }), ClosedError);
  transport.last.welcome();
  const answer = client.request({ type: "presence", channel: "room:1" });
  const refused = client.request({ type: "presence", channel: "room:2" });
  const lost = client.request({ type: "presence", channel: "room:3" });
  const [one, two] = transport.last.taken("presence").map(({ correlation_id }) => correlation_id);
  transport.last.frame({ type: "presence", channel: "room:1", payload: { count: 0, members: [], stale: false }, correlation_id: one });
  transport.last.frame({ type: "error", channel: "room:2", payload: { code: "not_subscribed", message: "", retryable: false }, correlation_id: two });
  assert.equal((await answer).type, "presence");
  await assert.rejects(refused, { code: "not_subscribed" });
  transport.last.closed();
  await assert.rejects(lost, ClosedError);
  client.close();
});

test("an address that is none is refused at once", () => {
  assert.throws(() => connect("ftp://gateway.test/", { token: "t" }), TypeError);
});
