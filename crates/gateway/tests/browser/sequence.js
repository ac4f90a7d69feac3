// Numbered messages into one scope, and whether somebody saw every number once and in order.
import assert from "node:assert/strict";

import { until } from "./deadline.js";

export class Sequence {
  /** How many numbers were handed out: they begin at 1. */
  count = 0;

  /** Of `scope`, such as `collection:42`. */
  constructor(scope) {
    this.scope = scope;
  }

  /** The payload of the next message. */
  next(by) {
    this.count += 1;
    return { n: this.count, by };
  }

  /** Waits until a card shows the last number, and asserts that it shows all of them; returns its messages. */
  async reached(card) {
    const { count, scope } = this;
    const mine = async () => (await card.messages()).filter(({ channel }) => channel.startsWith(`${scope}:`));
    await until(`${card.user} shows message ${count} of ${scope}`, async () => {
      const last = (await mine()).at(-1)?.payload.n;
      return last === count || last;
    });
    const messages = await mine();
    const numbers = messages.map(({ payload }) => payload.n);
    assert.deepEqual(numbers, this.numbers(), `${card.user} shows each number once, in order`);
    // Without a failover of Redis the generation stays, and offsets count.
    const [first, ...rest] = messages.map(({ position }) => position.split("-").map(BigInt));
    rest.forEach(([generation, offset], index) => {
      assert.equal(generation, first[0], `${card.user} stays in one generation`);
      assert.equal(offset, first[1] + BigInt(index + 1), `${card.user} sees positions that follow each other`);
    });
    return messages;
  }

  numbers() {
    return Array.from({ length: this.count }, (_, index) => index + 1);
  }
}
