// The transport of a tab: frames to and from the tab that has the connection.
import type { ClientFrame } from "../frame.js";
import type { Link, LinkEvents, OpenRequest, Transport } from "../transport.js";
import type { ToLeader, ToTab } from "./bus.js";

const NAME = "tabs";

export class TabTransport implements Transport {
  readonly name: string = NAME;
  readonly #tab: string;
  readonly #post: (message: ToLeader) => void;
  #count = 0;
  #link: TabLink | null = null;

  constructor(tab: string, post: (message: ToLeader) => void) {
    this.#tab = tab;
    this.#post = post;
  }

  open(request: OpenRequest, events: LinkEvents): Link {
    const say: TabLink["say"] = (what) => this.#post({ to: "leader", tab: this.#tab, link: link.number, ...what });
    const link = new TabLink(++this.#count, request, events, say);
    this.#link = link;
    link.open();
    return link;
  }

  receive(message: ToTab): void {
    if (message.link === this.#link?.number) this.#link.receive(message);
  }

  /** Another tab has the connection. */
  leaderChanged(): void {
    this.#link?.leaderChanged();
  }
}

type Said<M> = M extends unknown ? Omit<M, "to" | "tab" | "link"> : never;

class TabLink implements Link {
  readonly transport = NAME;
  readonly liveness = "own";
  readonly canPublish = true;
  readonly number: number;
  readonly say: (what: Said<ToLeader>) => void;
  readonly #request: OpenRequest;
  readonly #events: LinkEvents;
  #isWelcome = false;
  #isOver = false;

  constructor(number: number, request: OpenRequest, events: LinkEvents, say: TabLink["say"]) {
    this.number = number;
    this.say = say;
    this.#request = request;
    this.#events = events;
  }

  open(): void {
    const { channels, presence, correlationId } = this.#request;
    this.say({ say: "open", channels, presence, correlationId });
  }

  receive(message: ToTab): void {
    if (this.#isOver) return;
    if (message.say === "closed") {
      this.#isOver = true;
      this.#events.closed(message.end);
      return;
    }
    const { frame } = message;
    this.#isWelcome ||= frame.type === "welcome" && frame.timestamp === undefined;
    this.#events.frame(frame);
  }

  leaderChanged(): void {
    if (this.#isOver) return;
    // What the tab before has not answered is asked again, from where this tab is.
    if (!this.#isWelcome) return this.open();
    this.#isOver = true;
    this.#events.closed({ code: 1012, reason: "another tab has the connection", wait: 0 });
  }

  send(frame: ClientFrame): boolean {
    this.say({ say: "frame", frame });
    return true;
  }

  close(): void {
    this.#isOver = true;
    this.say({ say: "close" });
  }
}
