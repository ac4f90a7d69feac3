// How long a client waits before it comes back.
import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { backoff } from "../src/backoff.js";

const RANDOM = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("the first retry comes after 0 to 100 ms, the others with full jitter up to 30 s", () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), RANDOM, (attempt, random) => {
      const wait = backoff(attempt, random);
      const span = attempt === 0 ? 100 : Math.min(30_000, 500 * 2 ** Math.min(attempt, 20));
      assert.ok(wait >= 0 && wait < span, `${attempt}: ${wait}`);
      assert.ok(Math.abs(wait - random * span) < 1, "over the whole span");
    }),
  );
});

test("a delay that the gateway names counts", () => {
  fc.assert(
    fc.property(fc.nat(100), RANDOM, fc.nat(100_000), (attempt, random, ms) => {
      assert.equal(backoff(attempt, random, { ms, exact: true }), ms);
      const wait = backoff(attempt, random, { ms, exact: false });
      assert.ok(wait >= ms && wait >= backoff(attempt, random));
    }),
  );
});
