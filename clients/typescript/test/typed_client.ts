// What the compiler must accept and refuse. This file is compiled, not run.
import type { Client } from "../src/client.js";
import { connect } from "../src/client.js";
import { ForbiddenError } from "../src/protocol.js";
import { subscribeState } from "../src/snapshot.js";

interface Messages {
  "op.applied": { at: number };
  renamed: string;
}

export async function typed(client: Client<Messages>, untyped: Client): Promise<void> {
  client.subscribe("x:1", (message) => {
    if (message.type === "renamed") message.payload.toUpperCase();
    if (message.type === "op.applied") message.payload.at.toFixed();
    // @ts-expect-error: no such type
    if (message.type === "other") return;
    // @ts-expect-error: not known which payload it is
    message.payload.toUpperCase();
  });
  await client.publish("x:1", { at: 1 }, { event: "op.applied" });
  // @ts-expect-error: the payload of another type
  await client.publish("x:1", { at: 1 }, { event: "renamed" });
  // @ts-expect-error: these messages have no type `message`
  await client.publish("x:1", { at: 1 });
  await untyped.publish("x:1", { anything: true });
  await untyped.publish("x:1", 1, { event: "any" });
  const other = connect<{ message: number }>("ws://x", { token: "t" });
  await other.publish("x:1", 1);
  // @ts-expect-error: the payload of another type
  await other.publish("x:1", "1");
}

export function states(client: Client<Messages>): void {
  subscribeState<string[], Messages>(client, "x:1", {
    snapshot: async () => ({ state: [], position: "1-1" }),
    apply: (state, message) => (message.type === "renamed" ? [...state, message.payload] : state),
  });
  // @ts-expect-error: without its position, a snapshot cannot be continued
  subscribeState<string[], Messages>(client, "x:1", { snapshot: async () => ({ state: [] }), apply: () => {} });
  // @ts-expect-error: who handles the messages?
  subscribeState<string[], Messages>(client, "x:1", { snapshot: async () => ({ state: [], position: "1-1" }) });
  const { state } = client;
  if (state.name === "connected") state.session.user.toUpperCase();
  // @ts-expect-error: only while it waits
  state.until.toFixed();
}

export function refused(error: unknown): string | undefined {
  if (error instanceof ForbiddenError) {
    const code: "forbidden" = error.code;
    return code + error.message;
  }
  return undefined;
}
