// The tab that has the connection: one client, on behalf of all tabs.
import type { Client } from "../client.js";
import type { Off } from "../emitter.js";
import { GatewayError, type TidegateError } from "../error.js";
import type { ClientFrame, ServerFrame } from "../frame.js";
import type { Ack } from "../publish_queue.js";
import type { Subscription } from "../subscription.js";
import type { LinkEnd } from "../transport.js";
import type { ToLeader, ToTab } from "./bus.js";

/** One tab, as far as it is open. */
interface Tab {
  link: number;
  isWelcome: boolean;
  open: Extract<ToLeader, { say: "open" }>;
  subscriptions: Map<string, Subscription<any>>;
  offs: Off[];
}

/** What all tabs are told. */
const SHARED = new Set(["presence", "joined", "left", "notice", "degraded"]);

export class Leader {
  readonly #client: Client<any>;
  readonly #post: (message: ToTab) => void;
  /** Calls back when a tab is gone, however it ended. */
  readonly #onGone: (tab: string, gone: () => void) => void;
  readonly #tabs = new Map<string, Tab>();
  readonly #known = new Set<string>();
  readonly #offs: Off[];

  constructor(client: Client<any>, post: (message: ToTab) => void, onGone: (tab: string, gone: () => void) => void) {
    this.#client = client;
    this.#post = post;
    this.#onGone = onGone;
    this.#offs = [
      client.on("state", () => this.#changed()),
      client.on("frame", (frame) => {
        if (!SHARED.has(frame.type) || frame.correlation_id) return;
        for (const name of this.#tabs.keys()) this.#say(name, frame);
      }),
    ];
  }

  receive(message: ToLeader): void {
    const { tab: name, link } = message;
    const tab = this.#tabs.get(name);
    if (message.say === "open") {
      if (tab?.link === link) return;
      this.#end(name);
      this.#watch(name);
      this.#tabs.set(name, { link, isWelcome: false, open: message, subscriptions: new Map(), offs: [] });
      if (this.#client.state.name === "closed") this.#client.connect();
      this.#changed();
    } else if (tab?.link === link) {
      if (message.say === "close") this.#end(name);
      else this.#carry(name, tab, message.frame);
    }
  }

  /** This tab has the connection no longer. */
  close(): void {
    for (const off of this.#offs) off();
    this.#tabs.clear();
    this.#client.close();
  }

  #watch(name: string): void {
    if (this.#known.has(name)) return;
    this.#known.add(name);
    this.#onGone(name, () => {
      this.#known.delete(name);
      this.#end(name);
    });
  }

  #end(name: string): void {
    const tab = this.#tabs.get(name);
    this.#tabs.delete(name);
    for (const subscription of tab?.subscriptions.values() ?? []) subscription.unsubscribe();
    for (const off of tab?.offs ?? []) off();
  }

  /** Tabs share the state of the connection: while it is away, what they show may be out of date. */
  #changed(): void {
    const { state } = this.#client;
    for (const [name, tab] of [...this.#tabs]) {
      if (state.name === "closed") {
        const { code, message: reason, error } = state.reason;
        this.#close(name, { code, reason, ...(error && { error: new Error(error.message) }) });
      } else if (state.name === "connected") {
        if (!tab.isWelcome) this.#welcome(name, tab, state.session);
        else this.#say(name, { type: "degraded", payload: { degraded: state.degraded } });
      } else if (tab.isWelcome) this.#say(name, { type: "degraded", payload: { degraded: true } });
    }
  }

  #welcome(name: string, tab: Tab, session: object): void {
    tab.isWelcome = true;
    // The token is this tab's business.
    this.#say(name, { type: "welcome", payload: { ...session, expires_in_ms: undefined } } as ServerFrame);
    const { channels, presence, correlationId } = tab.open;
    for (const { channel, position } of channels) this.#subscribe(name, tab, channel, position, correlationId);
    for (const channel of presence) this.#presence(tab, channel);
  }

  #close(name: string, end: LinkEnd): void {
    const tab = this.#tabs.get(name)!;
    this.#end(name);
    this.#post({ to: name, link: tab.link, say: "closed", end });
  }

  #carry(name: string, tab: Tab, frame: ClientFrame): void {
    const { channel = "", correlation_id } = frame;
    switch (frame.type) {
      case "subscribe":
        return this.#subscribe(name, tab, channel, frame.position ?? null, correlation_id);
      case "unsubscribe":
        tab.subscriptions.get(channel)?.unsubscribe();
        tab.subscriptions.delete(channel);
        return;
      case "presence":
        return this.#presence(tab, channel);
      case "publish":
        return this.#publish(name, tab, frame);
    }
    this.#client.request(frame).then(
      (answer) => this.#answer(name, tab, { ...answer, correlation_id }),
      (error) => this.#refuse(name, tab, error, frame),
    );
  }

  #subscribe(name: string, tab: Tab, channel: string, position: string | null, correlation_id: string | undefined): void {
    tab.subscriptions.get(channel)?.unsubscribe();
    const say = (frame: object) => this.#answer(name, tab, frame as ServerFrame);
    const subscription = this.#client.subscribe(channel, say, { position });
    subscription.on("subscribed", ({ resumed, degraded, position }) =>
      say({ type: "subscribed", channel, payload: { resumed, degraded }, ...(position !== null && { position }), correlation_id }),
    );
    subscription.on("gap", (payload) => say({ type: "gap", channel, payload }));
    subscription.on("error", (error) => this.#refuse(name, tab, error, { type: "subscribe", channel, correlation_id }));
    tab.subscriptions.set(channel, subscription);
  }

  #presence(tab: Tab, channel: string): void {
    tab.offs.push(this.#client.watchPresence(channel));
    // Others may have asked before: each tab that watches the scope is told again.
    this.#client.request({ type: "presence", channel }).then(
      (list) => {
        for (const other of this.#tabs.keys()) this.#say(other, { ...list, correlation_id: null });
      },
      () => {},
    );
  }

  #publish(name: string, tab: Tab, frame: ClientFrame): void {
    const { channel = "", payload, event, id, timestamp, correlation_id } = frame;
    this.#client.publish(channel, payload, { event, id, timestamp, correlationId: correlation_id }).then(
      ({ level, duplicate, position }: Ack) =>
        this.#answer(name, tab, { type: "ack", channel, payload: { level, duplicate }, ...(position !== null && { position }), correlation_id }),
      (error) => this.#refuse(name, tab, error, frame),
    );
  }

  #refuse(name: string, tab: Tab, error: TidegateError, { channel, correlation_id }: ClientFrame): void {
    const isGateways = error instanceof GatewayError;
    // Only the gateway refuses for good. The tab asks again, under the same id.
    const code = isGateways ? error.code : "unknown";
    const payload = { code, message: error.message, retryable: isGateways ? error.retryable : true };
    this.#answer(name, tab, { type: "error", channel, payload, correlation_id } as ServerFrame);
  }

  /** Says something to a tab, unless it has connected anew since it asked. */
  #answer(name: string, tab: Tab, frame: ServerFrame): void {
    if (this.#tabs.get(name) === tab) this.#say(name, frame);
  }

  #say(name: string, frame: ServerFrame): void {
    this.#post({ to: name, link: this.#tabs.get(name)!.link, say: "frame", frame });
  }
}
