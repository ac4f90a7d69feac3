// The page of a single gateway in dev mode, as the first thing that a newcomer sees.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Card } from "./card.js";
import { keep, launch } from "./chromium.js";
import { until } from "./deadline.js";
import { Program, TIDEGATE } from "./program.js";
import { Sequence } from "./sequence.js";
import { TenLines } from "./ten_lines.js";

test("the page of a gateway in dev mode", async (t) => {
  // Ports of its own, and dev mode in spite of them; nothing else is configured.
  const gateway = new Program(TIDEGATE, ["--dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
  t.after(() => gateway.end("SIGTERM"));
  const [, url] = await gateway.wrote(/^(http:\S+)$/m);
  const browser = await launch();
  t.after(() => browser.close());

  await t.test("publishes, is refused, and resumes", async () => {
    const visit = await Visit.open(browser, url);
    await visit.publishes();
    await visit.isRefused();
    await visit.resumesWhatWasMissed();
    await visit.subscribesElsewhere();
    visit.wasClean(url);
    await visit.context.close();
  });

  await t.test("its ten lines of JavaScript receive", async () => {
    const visit = await Visit.open(browser, url);
    const lines = await TenLines.paste(visit.page);
    const sequence = new Sequence("collection:42");
    await visit.publish("alice", "collection:42:comments", sequence.next("alice"));
    await visit.publish("bob", "collection:42:ops", sequence.next("bob"));
    await lines.reached(sequence);
    visit.wasClean(url);
    await visit.context.close();
  });

  for (const [name, options] of [
    ["dark", { colorScheme: "dark" }],
    ["phone", { viewport: { width: 390, height: 844 } }],
    ["phone-dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }],
  ]) {
    await t.test(`fits: ${name}`, async () => {
      const visit = await Visit.open(browser, url, options);
      await visit.showsEverything();
      await keep(visit.page, `page-${name}`);
      visit.wasClean(url);
      await visit.context.close();
    });
  }
});

/** One browser on the page, and everything that it asked for or complained about. */
class Visit {
  static async open(browser, url, options = {}) {
    const visit = new Visit();
    visit.context = await browser.newContext(options);
    visit.page = await visit.context.newPage();
    visit.complaints = [];
    visit.asked = [];
    visit.page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) visit.complaints.push(message.text());
    });
    visit.page.on("pageerror", (error) => visit.complaints.push(error.message));
    visit.context.on("request", (request) => visit.asked.push(request.url()));
    visit.page.on("websocket", (socket) => visit.asked.push(socket.url()));
    [visit.alice, visit.bob] = await Card.open(visit.page, url);
    visit.answer = visit.page.locator("#publish-answer");
    return visit;
  }

  /** Fills the form, presses the button, and returns what the page answers. */
  async publish(user, channel, payload, button = "#send") {
    const { page } = this;
    await page.locator(".picker button", { hasText: channel }).click();
    assert.equal(await page.locator("#channel").inputValue(), channel, "the picker fills the form");
    await page.locator("#as").selectOption(user);
    await page.locator("#payload").fill(typeof payload === "string" ? payload : JSON.stringify(payload));
    // So that the answer that is read is the one to this.
    await this.answer.evaluate((answer) => answer.replaceChildren());
    await page.locator(button).click();
    await until("the page answers", async () => (await this.answer.textContent()) !== "");
    return this.answer.textContent();
  }

  async publishes() {
    const sequence = new Sequence("collection:42");
    const answer = await this.publish("alice", "collection:42:ops", sequence.next("alice"));
    assert.match(answer, /^durable at \d+-1$/);
    await this.publish("bob", "collection:42:comments", sequence.next("bob"));
    for (const card of [this.alice, this.bob]) {
      const messages = await sequence.reached(card);
      assert.deepEqual(messages.map(({ type, channel }) => [type, channel]), [
        ["op.applied", "collection:42:ops"],
        ["op.applied", "collection:42:comments"],
      ]);
      assert.equal(await card.figure("received"), 2);
      for (const name of ["latency", "median"]) {
        const latency_ms = await card.figure(name);
        assert.ok(latency_ms >= 0 && latency_ms < 5_000, `${name} is a time in ms, not ${latency_ms}`);
      }
    }
  }

  async isRefused() {
    const refused = await this.publish("alice", "user:bob:inbox", { text: "psst" });
    assert.match(refused, /^forbidden: the token does not grant publishing to this channel; it grants user:/);
    await keep(this.page, "page-refused");
    assert.match(await this.publish("alice", "user:bob:inbox", "{nonsense"), /^the payload is not JSON: /);
    assert.match(await this.publish("bob", "user:bob:inbox", { text: "note to self" }), /^durable at /);
    const own = async (card) => (await card.messages()).filter(({ channel }) => channel === "user:bob:inbox");
    await until("Bob hears what is his", async () => (await own(this.bob)).length === 1);
    assert.deepEqual((await own(this.bob))[0].payload, { text: "note to self" });
    assert.deepEqual(await own(this.alice), [], "Alice hears nothing of it");
  }

  async resumesWhatWasMissed() {
    const { alice, bob } = this;
    const [before, hers] = [await bob.figure("received"), await alice.figure("received")];
    await alice.cut.click();
    await alice.is("off");
    assert.equal(await alice.cut.textContent(), "Connect");
    const unsent = await this.publish("alice", "collection:42:ops", {});
    assert.equal(unsent, "Alice is not connected; publish as a connected client");
    await this.publish("bob", "collection:42:ops", { text: "while Alice is away" }, "#burst");
    await until("Bob hears ten", async () => (await bob.figure("received")) === before + 10);
    assert.equal(await alice.figure("received"), hers, "Alice is away");
    await keep(this.page, "page-cut");
    await alice.cut.click();
    await alice.is("open");
    await until("Alice hears ten", async () => (await alice.figure("received")) === hers + 10);
    const missed = (await alice.messages()).slice(-10);
    assert.deepEqual(missed.map(({ payload }) => payload.n), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.ok(missed.every(({ isResumed }) => isResumed), "all of them are marked as resumed");
    assert.equal(await alice.figure("resumed"), 10);
    assert.equal(await bob.figure("resumed"), 0);
    assert.deepEqual(await alice.states(), ["connected", "disconnected", "connecting", "connected"]);
    await keep(this.page, "page-resumed");
  }

  async subscribesElsewhere() {
    const { alice } = this;
    const hint = /^durable at \d+-1; no client on this page is subscribed to it: subscribe one to collection:7:ops$/;
    assert.match(await this.publish("alice", "collection:7:ops", { text: "unheard" }), hint);
    await alice.root.locator(".wanted").fill("collection:7:*");
    await alice.root.getByRole("button", { name: "Subscribe", exact: true }).click();
    await until("Alice is subscribed", async () => (await alice.notes(/^subscribed collection:7:\*$/)).length === 1);
    assert.match(await this.publish("alice", "collection:7:ops", { text: "heard" }), /^durable at \d+-2$/);
    const received = async () => (await alice.messages()).filter(({ channel }) => channel === "collection:7:ops");
    await until("Alice hears it", async () => (await received()).length === 1);
    assert.equal((await received())[0].payload.text, "heard");
    await alice.root.getByTitle("Unsubscribe collection:7:*").click();
    const held = alice.root.locator(".held");
    await until("it is no longer held", async () => !(await held.textContent()).includes("collection:7"));
  }

  /** Fills the page as much as it gets, and asserts that nothing lies beyond the window's edge. */
  async showsEverything() {
    const payload = { text: "a sentence that is longer than a telephone is wide" };
    await this.publish("bob", "collection:42:comments", payload, "#burst");
    await until("Alice hears ten", async () => (await this.alice.figure("received")) === 10);
    await this.bob.cut.click();
    await this.bob.is("off");
    await this.page.locator("footer summary").click();
    const [wanted, shown] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wanted <= shown, `the page is ${wanted} px wide in a window of ${shown} px`);
  }

  /** Nothing was complained about, and nothing was asked of anybody but this gateway. */
  wasClean(url) {
    assert.deepEqual(this.complaints, []);
    assert.ok(this.asked.some((asked) => asked.startsWith("ws:")), "the clients' sockets are among what was asked");
    const { host } = new URL(url);
    assert.deepEqual(this.asked.filter((asked) => new URL(asked).host !== host), [], "requests beyond this gateway");
  }
}
