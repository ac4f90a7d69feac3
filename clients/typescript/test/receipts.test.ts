// Receipts: one a second for each scope, of the newest message.
import assert from "node:assert/strict";
import { test } from "node:test";

import { receipts } from "../src/receipts.js";
import type { ScriptedLink } from "./scripted_transport.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

const told = (link: ScriptedLink) => link.taken("receipt").map(({ channel, position, correlation_id }) => {
  link.frame({ type: "receipt", channel, position, correlation_id });
  return `${channel} ${position}`;
});

test("the newest of each scope, once a second", async () => {
  const { client, environment, transport } = await stage();
  const sent = receipts(client);
  transport.last.welcome();
  for (const [channel, position] of [["room:1:a", "1-2"], ["room:1:b", "1-10"], ["room:1:a", "1-3"], ["room:2", "1-1"]] as const) sent.done({ channel, position });
  sent.done({ channel: "room:3", position: undefined });
  assert.deepEqual(told(transport.last), []);
  await environment.advance(1_000);
  assert.deepEqual(told(transport.last), ["room:1:b 1-10", "room:2 1-1"]);
  await environment.advance(5_000);
  assert.deepEqual(told(transport.last), [], "nothing is new");
  sent.done({ channel: "room:2", position: "1-2" });
  sent.close();
  assert.deepEqual(told(transport.last), ["room:2 1-2"], "closing tells the last ones");
  client.close();
});

test("what a connection did not carry, the next one does", async () => {
  const { client, environment, transport, errors } = await stage();
  const sent = receipts(client);
  sent.done({ channel: "room:1", position: "1-1" });
  await environment.advance(3_000);
  transport.last.welcome();
  await environment.advance(1_000);
  assert.equal(transport.last.taken("receipt").length, 1);
  transport.last.closed();
  await environment.advance(100);
  transport.last.welcome();
  await environment.advance(1_000);
  const [frame] = transport.last.taken("receipt");
  assert.equal(frame?.position, "1-1");
  transport.last.frame({ type: "error", channel: "room:1", payload: { code: "invalid_field", message: "", retryable: false }, correlation_id: frame?.correlation_id });
  await settle();
  transport.last.closed();
  await environment.advance(100);
  transport.last.welcome();
  await environment.advance(1_000);
  assert.deepEqual([told(transport.last), errors], [[], []], "what was refused is not told again");
  client.close();
});
