// Whatever happens to its connections, each subscription gets what it must, in order, each once; or it is told.
import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { matches } from "../src/channel.js";
import { connect } from "../src/client.js";
import { UnknownOutcomeError } from "../src/error.js";
import { isNewer } from "../src/position.js";
import { ModelGateway } from "./model_gateway.js";
import { VirtualEnvironment } from "./virtual_environment.js";

const CHANNELS = ["room:1:a", "room:1:b", "room:1:a:x"];
const NAMES = ["room:1:*", "room:1:a", "room:1:a:*", ...CHANNELS.slice(1)];

/** One thing that happens, and how long nothing else does. */
const EVENT = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant("publish" as const), at: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("cut" as const), at: fc.nat(0) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("down" as const), at: fc.nat(3_000) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("subscribe" as const), at: fc.nat(NAMES.length - 1) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("earlier" as const), at: fc.nat(NAMES.length - 1) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("unsubscribe" as const), at: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("trim" as const), at: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("fail" as const), at: fc.nat(4) }) },
);
const STORY = fc.array(fc.tuple(EVENT, fc.nat(60)), { minLength: 1, maxLength: 60 });

/** What one subscription saw, and where it must have begun. */
class Reader {
  readonly name: string;
  /** Positions, and where a gap has moved it. */
  readonly seen: ({ position: string } | { upto: string })[] = [];
  isOver = false;

  constructor(name: string, begin: string | null) {
    this.name = name;
    if (begin !== null) this.seen.push({ upto: begin });
  }
}

test("order, no duplicate, no silent loss, with overlapping patterns and several handles", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), STORY, async (seed, story) => {
      const environment = new VirtualEnvironment(seed);
      const gateway = new ModelGateway(environment);
      const client = connect("ws://gateway.test/ws", { token: "token", transport: gateway, environment });
      const failures: unknown[] = [];
      client.on("error", (error) => failures.push(error));
      const readers: { reader: Reader; end: () => void }[] = [];
      const subscribe = (name: string, position: string | null) => {
        const reader = new Reader(name, position);
        const subscription = client.subscribe(name, ({ position }) => reader.seen.push({ position: position! }), { position });
        subscription.on("subscribed", ({ position }) => reader.seen.length === 0 && reader.seen.push({ upto: position! }));
        subscription.on("gap", ({ upto }) => reader.seen.push({ upto: upto! }));
        readers.push({ reader, end: () => subscription.unsubscribe() });
      };
      subscribe("room:1:*", null);
      let generations = 0;
      for (const [event, pause] of story) {
        if (event.type === "publish") gateway.publish(CHANNELS[event.at]!, null);
        if (event.type === "cut") gateway.cut();
        if (event.type === "subscribe") subscribe(NAMES[event.at]!, null);
        if (event.type === "earlier") {
          // A position of a history that is gone is judged by the gateway, unless the channel is subscribed already.
          const position = gateway.stored.at(-3)?.position ?? null;
          subscribe(NAMES[event.at]!, position !== null && isNewer(position, gateway.newest) ? null : position);
        }
        if (event.type === "trim") gateway.trim(event.at);
        // Generations grow, but for a history that somebody has set back; none comes twice.
        if (event.type === "fail") gateway.fail(++generations * (event.at === 0 ? -1 : 1) + 1_000);
        const gone = event.type === "unsubscribe" ? readers[event.at] : undefined;
        if (gone) {
          gone.end();
          gone.reader.isOver = true;
        }
        if (event.type === "down") {
          gateway.isUp = false;
          gateway.cut();
          environment.timer(event.at, () => (gateway.isUp = true));
        }
        await environment.advance(pause);
      }
      gateway.isUp = true;
      await environment.advance(120_000);
      for (const channel of CHANNELS) gateway.publish(channel, "last");
      await environment.advance(1_000);
      for (const { reader } of readers) judge(reader, gateway);
      assert.deepEqual(failures, []);
      client.close();
    }),
    { numRuns: 300 },
  );
});

/** Between two marks of its history, a reader has seen exactly what its name matches, in the order of storing. */
function judge({ name, seen, isOver }: Reader, gateway: ModelGateway): void {
  const due = gateway.stored.filter(({ channel }) => matches(name, channel)).map(({ position }) => position);
  const text = `${name}: ${JSON.stringify(seen)} of ${due}`;
  let at: string | null = null;
  for (const entry of seen) {
    if ("upto" in entry) {
      at = entry.upto;
      continue;
    }
    const from: string | null = at;
    const [generation] = entry.position.split("-");
    const next: string | undefined = due.find((position) => position.split("-")[0] === generation && (from === null || from.split("-")[0] !== generation || isNewer(position, from)));
    assert.equal(entry.position, next, text);
    at = entry.position;
  }
  if (!isOver) assert.equal(at === null ? null : due.at(-1), at, `the last message came; ${text}`);
}

test("a message that was acknowledged is stored once, one that is unknown at most once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.array(fc.tuple(fc.constantFrom("publish", "cut", "down", "sleep"), fc.nat(200)), { maxLength: 60 }), async (seed, story) => {
      const environment = new VirtualEnvironment(seed);
      const gateway = new ModelGateway(environment);
      const client = connect("ws://gateway.test/ws", { token: "token", transport: gateway, environment });
      const outcomes: (string | null)[] = [];
      for (const [event, number] of story) {
        if (event === "publish") {
          const at = outcomes.push(null) - 1;
          client.publish("room:1:a", at).then(
            ({ position }) => (outcomes[at] = position),
            (error) => (outcomes[at] = error instanceof UnknownOutcomeError ? "unknown" : assert.fail(error)),
          );
        }
        if (event === "cut") gateway.cut();
        if (event === "down") {
          gateway.isUp = false;
          gateway.cut();
          environment.timer(number * 1_000, () => (gateway.isUp = true));
        }
        // A gateway ends the connection of a machine that sleeps.
        if (event === "sleep" && number >= 40) gateway.cut();
        await (event === "sleep" ? environment.sleep(number * 1_000) : environment.advance(number));
      }
      await environment.advance(400_000);
      outcomes.forEach((outcome, at) => {
        const stored = gateway.stored.filter(({ payload }) => payload === at).map(({ position }) => position);
        if (outcome === "unknown") assert.ok(stored.length <= 1, `${at}: ${stored}`);
        else assert.deepEqual(stored, [outcome], `${at}`);
      });
      const acked = outcomes.flatMap((outcome, at) => (outcome === "unknown" ? [] : [at]));
      const order = gateway.stored.map(({ payload }) => payload as number).filter((at) => acked.includes(at));
      assert.deepEqual(order, acked, "in the order in which they were published");
      client.close();
    }),
    { numRuns: 300 },
  );
});
