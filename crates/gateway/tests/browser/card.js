// One client's card on the page: everything here is read from what a user sees.
import { DEADLINE_MS, until } from "./deadline.js";

export class Card {
  constructor(page, user) {
    this.page = page;
    this.user = user;
    this.root = page.locator(`.client[data-user="${user}"]`);
    this.state = this.root.locator(".state");
    this.cut = this.root.locator(".cut");
  }

  /** Both cards of a page that was opened. */
  static async open(page, url) {
    await page.goto(url);
    const cards = ["alice", "bob"].map((user) => new Card(page, user));
    for (const card of cards) {
      await card.is("open");
      // An open client hears nothing before its subscriptions stand.
      await until(`${card.user} holds three channels`, async () => (await card.notes(/^subscribed /)).length === 3);
      await card.#recordStates();
    }
    return cards;
  }

  /** Waits for a state: connecting, open, away, off. */
  is(state) {
    return this.root.and(this.page.locator(`[data-state="${state}"]`)).waitFor({ timeout: DEADLINE_MS });
  }

  instance() {
    return this.root.getAttribute("data-instance");
  }

  /** The messages in the log, oldest first: where, what, and whether it is marked as resumed. */
  messages() {
    return this.root.locator(".log li[data-position]").evaluateAll((items) =>
      items.reverse().map((item) => {
        const [type, channel, payload] = [...item.querySelectorAll(".what span")].map((span) => span.textContent);
        const { position } = item.dataset;
        return { type, channel, payload: JSON.parse(payload), position, isResumed: item.classList.contains("late") };
      }),
    );
  }

  /** What the log says besides messages, oldest first. */
  async notes(pattern = /./) {
    const texts = await this.root.locator(".log li:not([data-position])").allTextContents();
    return texts.reverse().map((text) => text.trim()).filter((text) => pattern.test(text));
  }

  /** Every state the badge has shown since the page opened, however short: its words, in order. */
  states() {
    return this.state.evaluate((badge) => badge.shown);
  }

  #recordStates() {
    return this.state.evaluate((badge) => {
      badge.shown = [badge.textContent];
      const look = () => badge.shown.at(-1) !== badge.textContent && badge.shown.push(badge.textContent);
      new MutationObserver(look).observe(badge, { childList: true });
    });
  }

  /** A number among the card's figures. */
  async figure(name) {
    return Number.parseInt(await this.root.locator(`.${name}`).textContent(), 10);
  }
}
