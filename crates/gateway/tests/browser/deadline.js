// Waiting for what cannot be awaited: asking again and again until it is so, or too late.
import { setTimeout as pause } from "node:timers/promises";

/** Far beyond what anything here takes on a busy machine. */
export const DEADLINE_MS = 20_000;
const POLL_MS = 20;

/** Asks until the answer is true; fails with `what`, and with what was there instead. */
export async function until(what, ask, deadline_ms = DEADLINE_MS) {
  const deadline = Date.now() + deadline_ms;
  for (;;) {
    const answer = await ask();
    if (answer === true) return;
    if (Date.now() > deadline) {
      const instead = answer ? `; there is ${JSON.stringify(answer)}` : "";
      throw new Error(`waited ${deadline_ms / 1_000} s until ${what}${instead}`);
    }
    await pause(POLL_MS);
  }
}
