// What tabs say to each other.
import type { ClientFrame, Resume, ServerFrame } from "../frame.js";
import type { LinkEnd } from "../transport.js";

/** From a tab to the one that has the connection. */
export type ToLeader = { to: "leader"; tab: string; link: number } & (
  | { say: "open"; channels: Resume[]; presence: string[]; correlationId: string }
  | { say: "frame"; frame: ClientFrame }
  | { say: "close" }
);
/** From the tab that has the connection to another one. */
export type ToTab = { to: string; link: number } & ({ say: "frame"; frame: ServerFrame } | { say: "closed"; end: LinkEnd });
/** To all tabs: another tab has the connection now. */
export type NewLeader = { to: "all"; leader: string };
export type TabMessage = ToLeader | ToTab | NewLeader;

/** The part of a BroadcastChannel that is used here. */
export interface ChannelLike {
  onmessage: ((event: any) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** The part of `navigator.locks` that is used here. */
export interface LocksLike {
  request(name: string, options: { signal?: AbortSignal }, run: () => Promise<void>): Promise<unknown>;
}

/** A channel that also reaches the tab which posts. */
export class Bus {
  readonly #channel: ChannelLike;
  readonly #receive: (message: TabMessage) => void;
  #isOpen = true;

  constructor(channel: ChannelLike, receive: (message: TabMessage) => void) {
    this.#channel = channel;
    this.#receive = receive;
    channel.onmessage = ({ data }) => this.#receive(data);
  }

  post(message: TabMessage): void {
    if (!this.#isOpen) return;
    this.#channel.postMessage(message);
    queueMicrotask(() => this.#isOpen && this.#receive(message));
  }

  close(): void {
    this.#isOpen = false;
    this.#channel.close();
  }
}
