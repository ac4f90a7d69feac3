// The ten lines that the page offers, run as a user would: pasted into its console.
import assert from "node:assert/strict";

import { until } from "./deadline.js";

export class TenLines {
  /** What they logged, oldest first; each entry a promise of [type, channel, payload]. */
  #logged = [];

  static async paste(page) {
    const lines = new TenLines();
    const code = await page.locator("footer pre").textContent();
    assert.equal(code.trim().split("\n").length, 10);
    page.on("console", (message) => {
      const values = Promise.all(message.args().map((arg) => arg.jsonValue()));
      if (message.type() === "log") lines.#logged.push(values);
    });
    // A console awaits by itself; here a function does.
    await page.evaluate(`(async () => { ${code} })()`);
    const isSubscribed = async () => (await lines.logged()).some(([type]) => type === "subscribed");
    await until("the ten lines are subscribed", isSubscribed);
    return lines;
  }

  logged() {
    return Promise.all(this.#logged);
  }

  /** Waits for the last of a sequence, and asserts that all of it came, in order. */
  async reached(sequence) {
    const numbers = async () => (await this.logged()).map(([, , payload]) => payload?.n).filter((n) => n !== undefined);
    await until(`the ten lines log message ${sequence.count}`, async () => (await numbers()).includes(sequence.count));
    assert.deepEqual(await numbers(), sequence.numbers(), "the ten lines log each number once, in order");
  }
}
