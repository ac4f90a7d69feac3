// @tidegate/client/presence: who is in a scope, as a map that stays current.
import type { Client } from "./client.js";
import { Emitter, type Off } from "./emitter.js";
import type { ControlFrame, Member } from "./frame.js";

export interface PresenceEvents extends Record<string, unknown[]> {
  /** The members, their number, or `isStale` have changed. */
  change: [];
}

export class Presence {
  readonly #channel: string;
  readonly #emitter = new Emitter<PresenceEvents>();
  readonly #offs: Off[];
  #members = new Map<string, Member>();
  #count = 0;
  #isStale = true;

  /** Use `presence`. */
  constructor(client: Client<any>, channel: string) {
    this.#channel = channel;
    // Only who is subscribed in a scope is told who is there.
    const subscription = client.subscribe(channel, () => {});
    this.#offs = [
      () => subscription.unsubscribe(),
      client.watchPresence(channel),
      client.on("frame", (frame) => this.#received(frame)),
      client.on("state", ({ name }) => name !== "connected" && !this.#isStale && this.#changed(() => (this.#isStale = true))),
    ];
  }

  /** By user. A new map after each change. */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  /** How many members there are. It may be more than the gateway names. */
  get count(): number {
    return this.#count;
  }

  /** Whether `members` has all of them: a gateway names at most 256. */
  get isComplete(): boolean {
    return this.#members.size === this.#count;
  }

  /** The connection is away, or the gateway is without its broker: somebody may have come or gone. */
  get isStale(): boolean {
    return this.#isStale;
  }

  on<E extends keyof PresenceEvents & string>(event: E, listener: (...args: PresenceEvents[E]) => unknown): Off {
    return this.#emitter.on(event, listener);
  }

  close(): void {
    for (const off of this.#offs.splice(0)) off();
  }

  #received(frame: ControlFrame): void {
    // The gateway names the scope's own channel.
    if (frame.channel === undefined || !`${this.#channel}:`.startsWith(`${frame.channel}:`)) return;
    if (frame.type === "presence") {
      const { count, members, stale } = frame.payload;
      this.#changed(() => {
        this.#members = new Map(members.map((member) => [member.user, member]));
        [this.#count, this.#isStale] = [count, stale];
      });
    }
    if (frame.type === "joined") {
      const { count, ...member } = frame.payload;
      this.#changed(() => {
        this.#members = new Map(this.#members).set(member.user, member);
        this.#count = count;
      });
    }
    if (frame.type === "left") {
      const { count, user } = frame.payload;
      this.#changed(() => {
        this.#members = new Map(this.#members);
        this.#members.delete(user);
        this.#count = count;
      });
    }
  }

  #changed(run: () => void): void {
    run();
    this.#emitter.emit("change");
  }
}

/** Subscribes to a channel, and keeps a list of who else is subscribed in its scope. */
export function presence(client: Client<any>, channel: string): Presence {
  return new Presence(client, channel);
}
