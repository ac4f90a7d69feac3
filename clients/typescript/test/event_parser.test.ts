// Server-sent events, however their text is cut into pieces.
import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { EventParser, type StreamEvent } from "../src/fallback/event_parser.js";

const parse = (pieces: string[]): StreamEvent[] => {
  const parser = new EventParser();
  return pieces.flatMap((piece) => parser.push(piece));
};

test("data, ids, delays and comments", () => {
  assert.deepEqual(parse(["retry: 897\nevent: welcome\ndata: {}\n\nid: a\ndata:x\ndata: y\n\n:\n\nid: b\n\ndata: z\nretry: 1s\nid: c\0\n\ndata: not ended"]), [
    { data: "{}", id: null, retry: 897 },
    { data: "x\ny", id: "a", retry: null },
    { data: "", id: "a", retry: null },
    { data: "", id: "b", retry: null },
    { data: "z", id: "b", retry: null },
  ]);
});

test("the pieces do not matter, nor which line ends are used", () => {
  const line = fc.constantFrom("data: a", "data", "data:b: c", ":", "id: 1", "retry: 5", "", "event: x", "other");
  fc.assert(
    fc.property(fc.array(line), fc.constantFrom("\n", "\r\n", "\r"), fc.array(fc.nat(200)), (lines, end, cuts) => {
      const text = [...lines, "data: last", "", ""].join(end);
      const places = [...new Set([0, ...cuts.map((cut) => cut % text.length), text.length])].sort((a, b) => a - b);
      const pieces = places.slice(1).map((place, at) => text.slice(places[at], place));
      assert.deepEqual(parse(pieces), parse([[...lines, "data: last", "", ""].join("\n")]));
    }),
    { numRuns: 1_000 },
  );
});
