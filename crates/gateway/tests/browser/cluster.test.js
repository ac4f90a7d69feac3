// The cluster as its users see it: two browsers behind HAProxy, workers that publish, and instances that go.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Card } from "./card.js";
import { keep, launch } from "./chromium.js";
import { Cluster } from "./cluster.js";
import { until } from "./deadline.js";
import { CountingPublisher, EventStreamPage } from "./event_stream.js";
import { Program, TIDEGATE } from "./program.js";
import { RedisClient } from "./redis_client.js";
import { Sequence } from "./sequence.js";
import { TenLines } from "./ten_lines.js";

const SCOPE = "collection:42";

test("two browsers on different instances miss nothing", async (t) => {
  const cluster = await Cluster.start();
  t.after(() => cluster.end());
  const redis = await RedisClient.connect(cluster.redis);
  t.after(() => redis.end());
  const browser = await launch();
  t.after(() => browser.close());

  const one = await Visitor.open(browser, cluster.url);
  const two = await openElsewhere(browser, cluster.url, await one.instance());
  const trial = new Trial(cluster, redis, one, two);
  trial.lines = await TenLines.paste(one.page);
  await trial.deliversFromAnyWorker();
  await trial.resumesWhenAnInstanceIsKilled();
  await trial.repairsACutSubscription();
  await trial.movesClientsOffADrainingInstance();
  for (const visitor of [one, two]) await visitor.sawNothingWrong();
});

test("an event stream goes on when its instance is killed or drains", async (t) => {
  const cluster = await Cluster.start();
  t.after(() => cluster.end());
  const redis = await RedisClient.connect(cluster.redis);
  t.after(() => redis.end());
  const browser = await launch();
  t.after(() => browser.close());
  const reader = await EventStreamPage.open(t, browser, cluster, "alice");

  const publisher = new CountingPublisher(redis, "collection:77");
  await reader.subscribe("collection:77:*");
  publisher.start();
  await reader.receivesMore(20);
  const killed = await reader.instance();
  assert.match(await cluster.kill(killed, "SIGKILL"), /^signal: 9/);
  await reader.left(killed);
  await reader.receivesMore(20);
  const drained = await reader.instance();
  assert.equal(await cluster.kill(drained, "SIGTERM"), "exit status: 0");
  await reader.left(drained);
  await reader.receivesMore(20);
  await publisher.stop();
  await reader.hasAllOf(publisher.count);
  assert.ok((await reader.seen()).opens >= 3, "the browser connected again after each loss");

  const once = new CountingPublisher(redis, "collection:78");
  await reader.fetches("collection:78:*", () => once.publish());
});

/** A browser with cookies of its own, showing the page. */
class Visitor {
  static async open(browser, url) {
    const visitor = new Visitor();
    visitor.context = await browser.newContext();
    visitor.page = await visitor.context.newPage();
    visitor.errors = [];
    visitor.page.on("pageerror", (error) => visitor.errors.push(error.message));
    visitor.cards = await Card.open(visitor.page, url);
    return visitor;
  }

  /** Where its clients are. HAProxy's cookie, set with the page, keeps them together. */
  async instance() {
    const instances = await Promise.all(this.cards.map((card) => card.instance()));
    assert.equal(instances[0], instances[1], "clients of one browser stick to one instance");
    return instances[0];
  }

  /** Lengthens an outage until the function that this returns is called: no client gets a token. */
  async holdReturn() {
    let release;
    const released = new Promise((resolve) => (release = resolve));
    await this.page.route("**/dev/token?*", async (route) => {
      await released;
      await route.continue();
    });
    return async () => {
      release();
      await this.page.unrouteAll({ behavior: "wait" });
    };
  }

  /** Waits until every client has shown that it lost its connection. */
  async isAway() {
    for (const card of this.cards) {
      await until(`${card.user} shows the loss`, async () => (await card.states()).includes("reconnecting"));
    }
  }

  /** What a user could have noticed besides messages, but for notes that are expected. */
  noticed(expected) {
    const notes = async (card) => (await card.notes()).filter((note) => !expected?.test(note));
    return Promise.all(this.cards.map(async (card) => [await card.instance(), await card.states(), await notes(card)]));
  }

  async sawNothingWrong() {
    assert.equal(await this.page.locator(".log .gap, .log .error").count(), 0, "no gap and no error in any log");
    assert.deepEqual(this.errors, [], "no script failed");
  }
}

/** A second browser on another instance than the first; `leastconn` sends the first try there. */
async function openElsewhere(browser, url, taken) {
  for (let tries = 0; tries < 3; tries += 1) {
    const visitor = await Visitor.open(browser, url);
    if ((await visitor.instance()) !== taken) return visitor;
    await visitor.context.close();
  }
  assert.fail(`three browsers in a row came to ${taken}, where the first one is`);
}

/** Each step publishes into one sequence, breaks one thing, and leaves both browsers complete. */
class Trial {
  constructor(cluster, redis, one, two) {
    Object.assign(this, { cluster, redis, one, two });
    this.sequence = new Sequence(SCOPE);
  }

  get cards() {
    return [...this.one.cards, ...this.two.cards];
  }

  async deliversFromAnyWorker() {
    // The lines that the terminal offers for copying.
    for (const line of this.cluster.copied) await new Program("sh", ["-c", line]).succeeds();
    for (let round = 0; round < 4; round += 1) {
      await this.redis.send(...this.fcalls(4));
      await this.command();
    }
    await this.allReached();
    for (const card of this.cards) {
      const systemMessages = (await card.messages()).filter(({ channel }) => channel === "system:news");
      assert.deepEqual(systemMessages.map(({ payload }) => payload.text), ["hello", "hello"], `${card.user}: the copied lines`);
    }
    await keep(this.one.page, "cluster-1-delivered-one");
    await keep(this.two.page, "cluster-1-delivered-two");
  }

  async resumesWhenAnInstanceIsKilled() {
    const { cluster, one, two } = this;
    const victim = await one.instance();
    const bystander = await two.noticed();
    const release = await one.holdReturn();
    const killed = cluster.kill(victim, "SIGKILL");
    await this.redis.send(...this.fcalls(5)); // while nobody knows yet
    assert.match(await killed, /^signal: 9/);
    await one.isAway();
    const missed = await this.fcallsAndCommand();
    await keep(one.page, "cluster-2-killed");
    await release();
    await this.returned(one, victim, missed, /^connection ended: 1006/);
    await this.fcallsAndCommand();
    await this.allReached();
    await keep(one.page, "cluster-3-resumed");
    assert.deepEqual(await two.noticed(), bystander, "the other browser noticed nothing");
  }

  async repairsACutSubscription() {
    // A gateway says so when it loses Redis, be it for some milliseconds.
    const notice = /^this instance .* Redis/;
    const noticed = () => Promise.all([this.one.noticed(notice), this.two.noticed(notice)]);
    const before = await noticed();
    // In one write: Redis runs the calls before any gateway can be back.
    const [cut] = await this.redis.send(["CLIENT", "KILL", "TYPE", "pubsub"], ...this.fcalls(8));
    assert.ok(cut >= 2, `Redis cut the subscriptions of both living gateways, not ${cut}`);
    await this.allReached();
    await this.fcallsAndCommand();
    await this.allReached();
    assert.deepEqual(await noticed(), before, "no client was disturbed");
  }

  async movesClientsOffADrainingInstance() {
    const { cluster, two } = this;
    const victim = await two.instance();
    const release = await two.holdReturn();
    const gone = cluster.kill(victim, "SIGTERM");
    await this.redis.send(...this.fcalls(5));
    await two.isAway();
    const missed = await this.fcallsAndCommand();
    await keep(two.page, "cluster-4-draining");
    assert.equal(await gone, "exit status: 0");
    await release();
    await this.returned(two, victim, missed, /^connection ended: 1012/);
    for (const card of two.cards) {
      assert.equal((await card.notes(/^asked to reconnect in \d+ ms$/)).length, 1, `${card.user} was asked to move`);
    }
    await this.fcallsAndCommand();
    await this.allReached();
    await keep(two.page, "cluster-5-drained");
  }

  /** A visitor's clients are on another instance, and show as resumed what was published while they were away. */
  async returned(visitor, left, missed, ending) {
    for (const card of visitor.cards) {
      await card.is("open");
      const messages = await this.sequence.reached(card);
      const resumed = messages.filter(({ isResumed }) => isResumed).map(({ payload }) => payload.n);
      assert.deepEqual(missed.filter((n) => !resumed.includes(n)), [], `${card.user}: what was missed is marked`);
      assert.equal(await card.figure("resumed"), resumed.length, `${card.user}: and counted`);
      assert.notEqual(await card.instance(), left);
      const states = await card.states();
      assert.deepEqual([states[0], states[1], states.at(-1)], ["connected", "reconnecting", "connected"], card.user);
      assert.equal((await card.notes(ending)).length, 1, `${card.user} lost one connection`);
      assert.equal((await card.notes(/^resumed collection:42:\* after \d+$/)).length, 1, `${card.user} resumed once`);
    }
  }

  async allReached() {
    for (const card of this.cards) await this.sequence.reached(card);
    await this.lines.reached(this.sequence);
  }

  /** What any language's Redis client sends. */
  fcalls(times) {
    const scope = `tidegate:{default/${SCOPE}}`;
    return Array.from({ length: times }, () => {
      const message = JSON.stringify({ type: "op.applied", payload: this.sequence.next("fcall") });
      return ["FCALL", "tidegate_publish", 2, `${scope}:stream`, `${scope}:meta`, "ops", message];
    });
  }

  /** What a shell script runs. */
  async command() {
    const payload = JSON.stringify(this.sequence.next("tidegate publish"));
    const args = ["publish", "--redis-url", this.cluster.redis, "--type", "op.applied", `${SCOPE}:comments`, payload];
    assert.match(await new Program(TIDEGATE, args).succeeds(), /^\d+-\d+$/, "the command prints the position");
  }

  /** Both ways to publish; returns the numbers. */
  async fcallsAndCommand() {
    const first = this.sequence.count + 1;
    await this.redis.send(...this.fcalls(4));
    await this.command();
    return Array.from({ length: this.sequence.count - first + 1 }, (_, index) => first + index);
  }
}
