// Who is in a scope.
import assert from "node:assert/strict";
import { test } from "node:test";

import { presence } from "../src/presence.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

const member = (user: string) => ({ user, since: "2026-11-20T12:00:00.000Z" });
const list = (users: string[], fields: object = {}) => ({
  type: "presence",
  channel: "room:1",
  payload: { count: users.length, members: users.map(member), stale: false, ...fields },
});

test("members come and go, and a new list replaces the old one", async () => {
  const { client, environment, transport } = await stage();
  const here = presence(client, "room:1:*");
  let changes = 0;
  here.on("change", () => changes++);
  assert.deepEqual([here.isStale, here.count], [true, 0]);
  transport.last.welcome();
  assert.deepEqual(transport.last.sent.map(({ type, channel }) => [type, channel]), [["subscribe", "room:1:*"]]);
  transport.last.frame(list(["alice", "bob"]));
  const before = here.members;
  transport.last.frame({ type: "joined", channel: "room:1", payload: { ...member("carol"), info: { name: "Carol" }, count: 3 } });
  transport.last.frame({ type: "left", channel: "room:1", payload: { user: "bob", count: 2 } });
  transport.last.frame({ type: "joined", channel: "room:11", payload: { ...member("eve"), count: 9 } });
  transport.last.frame({ type: "left", channel: "room:1", payload: { user: "nobody", count: 2 } });
  assert.deepEqual([[...here.members.keys()], here.count, here.isComplete, changes], [["alice", "carol"], 2, true, 4]);
  assert.deepEqual(here.members.get("carol"), { ...member("carol"), info: { name: "Carol" } });
  assert.deepEqual([...before.keys()], ["alice", "bob"], "an earlier map stays as it was");
  transport.last.frame(list(["dave"], { count: 4_000 }));
  assert.deepEqual([[...here.members.keys()], here.count, here.isComplete], [["dave"], 4_000, false]);
  transport.last.frame(list(["dave"], { stale: true }));
  assert.equal(here.isStale, true);
  transport.last.frame(list(["dave"]));
  assert.equal(here.isStale, false);

  transport.last.closed();
  assert.deepEqual([here.isStale, here.count], [true, 1], "what was known stays, and is marked");
  await environment.advance(100);
  assert.deepEqual(transport.last.request.presence, ["room:1:*"], "asked again on a new connection");
  transport.last.welcome();
  transport.last.frame(list([]));
  assert.deepEqual([here.isStale, here.count], [false, 0]);
  const count = changes;
  here.close();
  transport.last.frame(list(["frank"]));
  assert.equal(changes, count);
  await settle();
  assert.equal(transport.last.taken("unsubscribe").length, 1);
  transport.last.closed();
  await environment.advance(100);
  assert.deepEqual(transport.last.request.presence, []);
  client.close();
});

test("it is asked for on an open connection, after the subscription", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  const [one, two] = [presence(client, "system:*"), presence(client, "system:*")];
  assert.deepEqual(transport.last.sent.map(({ type }) => type), ["subscribe", "presence"]);
  transport.last.frame({ ...list(["alice"]), channel: "system" });
  assert.deepEqual([one.count, two.count], [1, 1]);
  const other = presence(client, "system:11:*");
  transport.last.frame({ ...list(["alice", "bob"]), channel: "system:1" });
  assert.equal(other.count, 0, "another scope");
  one.close();
  transport.last.frame({ ...list([]), channel: "system" });
  assert.deepEqual([one.count, two.count], [1, 0]);
  client.close();
});
