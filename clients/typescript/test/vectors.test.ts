// The cases of docs/vectors, as far as a client reads them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { matches, overlap } from "../src/channel.js";
import { shouldReconnect } from "../src/close.js";
import { decode } from "../src/codec.js";
import { isMessage, type ServerFrame } from "../src/frame.js";
import { comparePositions, isPosition } from "../src/position.js";
import { ERROR_CODES, GATEWAY_TYPES } from "../src/protocol.js";
import { stage } from "./stage.js";

const ROOT = new URL("../../../../", import.meta.url);
const read = (name: string) => JSON.parse(readFileSync(new URL(`docs/vectors/${name}.json`, ROOT), "utf8"));
const bytes = (hex: string) => Uint8Array.from(hex.match(/../g)!.map((pair) => parseInt(pair, 16)));

test("positions are read and compared as two integers", () => {
  const { valid, invalid, order } = read("positions");
  for (const { text } of valid) assert.ok(isPosition(text), text);
  for (const text of invalid) assert.ok(!isPosition(text), text);
  for (const { smaller, larger } of order) {
    assert.ok(comparePositions(smaller, larger) < 0 && comparePositions(larger, smaller) > 0, `${smaller} < ${larger}`);
    assert.equal(comparePositions(larger, larger), 0);
  }
});

test("patterns match the channels that the gateway says", () => {
  for (const { pattern, hears, does_not_hear } of read("channels").matching) {
    for (const channel of hears) {
      assert.ok(matches(pattern, channel) && overlap(pattern, channel) && overlap(channel, pattern), `${pattern} ${channel}`);
    }
    for (const channel of does_not_hear) assert.ok(!matches(pattern, channel), `${pattern} ${channel}`);
  }
});

test("a close code alone decides whether to come back", () => {
  const { codes, others } = read("close_codes");
  for (const { code, reconnect } of [...codes, ...others]) assert.equal(shouldReconnect(code), reconnect, String(code));
});

test("the error codes are those of the gateway", () => {
  assert.deepEqual([...ERROR_CODES], read("errors").codes.map(({ code }: { code: string }) => code));
});

test("control frames are read, and later ones ignored", () => {
  const { frames, ignore, accept } = read("server_frames");
  const types = new Set<string>();
  for (const { name, text } of frames) {
    const frame = decode(text);
    assert.ok(frame && !isMessage(frame), name);
    types.add(frame.type);
  }
  assert.deepEqual(types, new Set(GATEWAY_TYPES), "each type has a case");
  for (const { name, text, type } of accept) assert.equal(decode(text)?.type, type, name);
  for (const { name, text } of ignore) assert.ok(!isMessage(decode(text)!), name);
});

test("messages are read, as text and as bytes", () => {
  for (const { name, delivered, delivered_hex } of read("messages").delivered) {
    const frame = delivered === undefined ? decode(bytes(delivered_hex)) : decode(delivered);
    assert.ok(frame && isMessage(frame), name);
    assert.equal(frame.payload instanceof Uint8Array, delivered === undefined, name);
  }
  assert.equal(decode(bytes("02000c7b2274797065223a2278227dff")), null, "another version is ignored");
  for (const hex of ["", "01", "0100", "01000c7b"]) assert.equal(decode(hex === "" ? new Uint8Array() : bytes(hex)), null, hex);
});

for (const { name, held, frames, keep } of read("positions").keeping) {
  test(`positions are kept: ${name}`, async () => {
    const { client, environment, transport } = await stage({}, (client) => {
      for (const [channel, position] of Object.entries<string | null>(held)) client.subscribe(channel, () => {}, { position });
    });
    transport.last.welcome();
    // All of these clients had begun, at the positions that they hold.
    for (const [channel, position] of Object.entries<string | null>(held)) {
      if (position !== null) transport.last.subscribed(channel, position, true);
    }
    for (const text of frames) transport.last.events.frame(decode(text) as ServerFrame);
    transport.last.closed();
    await environment.advance(200);
    const kept = Object.fromEntries(transport.last.request.channels.map(({ channel, position }) => [channel, position]));
    assert.deepEqual(kept, keep);
    client.close();
  });
}
