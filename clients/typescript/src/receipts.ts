// @tidegate/client/receipts: tells the gateway how far this user has got, once a second.
import type { Client } from "./client.js";
import type { Off } from "./emitter.js";
import type { Message } from "./frame.js";
import { isNewer, type Position } from "./position.js";

/** The gateway writes receipts no more often. */
const INTERVAL_MS = 1_000;

/** What of a message is needed for its receipt. */
type Dealt = Pick<Message<any>, "channel" | "position">;

export class Receipts {
  readonly #client: Client<any>;
  /** By scope: the channel, and the newest position that was dealt with and not told. */
  readonly #untold = new Map<string, { channel: string; position: Position }>();
  readonly #off: Off;
  #cancel: Off | null = null;

  /** Use `receipts`. */
  constructor(client: Client<any>) {
    this.#client = client;
    this.#off = client.on("state", ({ name }) => name === "connected" && this.#later());
  }

  /** The message, and everything before it in its scope, is dealt with: shown, stored, or applied. */
  done({ channel, position }: Dealt): void {
    if (position === undefined) return;
    // Receipts belong to the scope. The gateway sorts out families without ids.
    const scope = channel.split(":", 2).join(":");
    const last = this.#untold.get(scope);
    if (last && !isNewer(position, last.position)) return;
    this.#untold.set(scope, { channel, position });
    this.#later();
  }

  /** Tells the last receipts, and ends. */
  close(): void {
    this.#off();
    this.#cancel?.();
    this.#tell();
  }

  #later(): void {
    if (this.#cancel !== null || this.#untold.size === 0) return;
    this.#cancel = this.#client.environment.timer(INTERVAL_MS, () => {
      this.#cancel = null;
      this.#tell();
    });
  }

  #tell(): void {
    for (const [scope, receipt] of this.#untold) {
      this.#client.request({ type: "receipt", ...receipt }).then(
        () => this.#untold.get(scope) === receipt && this.#untold.delete(scope),
        // The next connection, or the next receipt, makes up for it. What the gateway refuses is not told again.
        ({ code }) => code !== "closed" && this.#untold.get(scope) === receipt && this.#untold.delete(scope),
      );
    }
  }
}

/** One for each client. */
export function receipts(client: Client<any>): Receipts {
  return new Receipts(client);
}
