// @tidegate/client/tabs: one connection for all tabs of an origin.
import { connect, type Client, type ConnectOptions } from "../client.js";
import type { Off } from "../emitter.js";
import { systemEnvironment } from "../environment.js";
import { Bus, type ChannelLike, type LocksLike, type TabMessage } from "./bus.js";
import { Leader } from "./leader.js";
import { TabTransport } from "./tab_transport.js";

export interface TabsOptions extends ConnectOptions {
  /** Tabs with the same name share a connection; the address unless given. Include the user if it may change. */
  name?: string;
  /** `navigator.locks` and a BroadcastChannel, for tests. */
  locks?: LocksLike;
  channel?: (name: string) => ChannelLike;
}

export type { ChannelLike, LocksLike } from "./bus.js";

/**
 * As `connect`, but one tab holds the connection for all of them. When that tab is closed, another one takes over, and
 * continues where each tab is. Where a browser cannot do that, each tab has a connection of its own.
 */
export function connectTabs<M extends object = Record<string, unknown>>(url: string, options: TabsOptions): Client<M> {
  const { name = url, locks = globalThis.navigator?.locks as LocksLike | undefined, channel = channelOf, ...own } = options;
  if (!locks || (channel === channelOf && !globalThis.BroadcastChannel)) return connect<M>(url, own);
  const environment = own.environment ?? systemEnvironment();
  const key = `tidegate:${name}`;
  const tab = environment.id();
  const bus = new Bus(channel(key), receive);
  const transport = new TabTransport(tab, say);
  let leader: Leader | null = null;
  /** Whether this tab has its own lock. Until then, the others would take it for gone. */
  let isHeld = false;
  let waiting: TabMessage[] = [];
  let stop: Off = start();

  function receive(message: TabMessage): void {
    if (message.to === "leader") leader?.receive(message as never);
    else if (message.to === tab) transport.receive(message as never);
    else if (message.to === "all") transport.leaderChanged();
  }

  function say(message: TabMessage): void {
    if (isHeld) bus.post(message);
    else waiting.push(message);
  }

  function held(): void {
    isHeld = true;
    for (const message of waiting.splice(0)) bus.post(message);
  }

  /** Waits until no other tab has the connection. */
  function start(): Off {
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    const ignore = () => {};
    const onGone = (other: string, gone: () => void) => {
      if (other !== tab) locks!.request(`${key}:${other}`, { signal }, async () => gone()).catch(ignore);
    };
    // As long as this tab is there, and to lead.
    locks!.request(`${key}:${tab}`, { signal }, () => (held(), aborted)).catch(ignore);
    const lead = async () => {
      leader = new Leader(connect(url, { ...own, environment }), (message) => bus.post(message), onGone);
      bus.post({ to: "all", leader: tab });
      await aborted;
    };
    locks!.request(key, { signal }, lead).catch(ignore);
    return () => {
      leader?.close();
      leader = null;
      isHeld = false;
      waiting = [];
      controller.abort();
    };
  }

  const unwatch = environment.watch((signal) => {
    // A page in the browser's cache must not keep the connection of the others.
    if (signal === "suspend") stop();
    if (signal === "resume") stop = start();
  });
  const client = connect<M>(url, { environment, transport, token: "that of the tab with the connection" });
  const close = client.close.bind(client);
  client.close = () => {
    close();
    unwatch();
    stop();
    bus.close();
  };
  return client;
}

function channelOf(name: string): ChannelLike {
  return new BroadcastChannel(name);
}
