// @tidegate/client/react: hooks. They work without suspense, and in StrictMode.
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";

import type { Client } from "./client.js";
import type { Gap, Member, Message } from "./frame.js";
import { presence, type Presence } from "./presence.js";
import { subscribeState, type StateOptions, type StateStatus } from "./snapshot.js";
import type { ConnectionState } from "./state.js";

/** The state of the connection. */
export function useConnection(client: Client<any>): ConnectionState {
  const subscribe = useCallback((changed: () => void) => client.on("state", changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => client.state);
}

export interface ChannelHandlers {
  /** Messages are missing, or may be. */
  onGap?: (gap: Gap) => unknown;
  onError?: (error: unknown) => unknown;
}

/** Subscribes while the component is mounted. The handlers may change at every rendering. No channel: nothing. */
export function useChannel<M extends object>(
  client: Client<M>,
  channel: string | null | undefined,
  onMessage: (message: Message<M>) => unknown,
  handlers: ChannelHandlers = {},
): void {
  const latest = useRef({ onMessage, handlers });
  useEffect(() => {
    latest.current = { onMessage, handlers };
  });
  useEffect(() => {
    if (!channel) return;
    const subscription = client.subscribe(channel, (message) => latest.current.onMessage(message));
    subscription.on("gap", (gap) => latest.current.handlers.onGap?.(gap));
    subscription.on("error", (error) => latest.current.handlers.onError?.(error));
    return () => subscription.unsubscribe();
  }, [client, channel]);
}

export interface PresenceView {
  members: ReadonlyMap<string, Member>;
  count: number;
  isComplete: boolean;
  isStale: boolean;
}

const NOBODY: PresenceView = { members: new Map(), count: 0, isComplete: true, isStale: true };

const LOADING = { state: null, status: "loading" } as const;

/** Who is in the scope of a channel. */
export function usePresence(client: Client<any>, channel: string | null | undefined): PresenceView {
  const [view, setView] = useState(NOBODY);
  useEffect(() => {
    if (!channel) return;
    const list: Presence = presence(client, channel);
    list.on("change", () => {
      const { members, count, isComplete, isStale } = list;
      setView({ members, count, isComplete, isStale });
    });
    return () => {
      list.close();
      setView(NOBODY);
    };
  }, [client, channel]);
  return view;
}

/** A state that is loaded once, and kept current by messages. `options` may change at every rendering. */
export function useLiveState<State, M extends object>(
  client: Client<M>,
  channel: string | null | undefined,
  options: StateOptions<State, M>,
): { state: State | null; status: StateStatus } {
  const latest = useRef(options);
  const [view, setView] = useState<{ state: State | null; status: StateStatus }>(LOADING);
  useEffect(() => {
    latest.current = options;
  });
  useEffect(() => {
    if (!channel) return;
    const live = subscribeState<State, M>(client, channel, {
      snapshot: (signal) => latest.current.snapshot(signal),
      apply: (state, message) => latest.current.apply(state, message),
    });
    live.on("change", () => setView({ state: live.state, status: live.status }));
    return () => {
      live.close();
      setView(LOADING);
    };
  }, [client, channel]);
  return view;
}
