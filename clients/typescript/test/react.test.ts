// The hooks, in StrictMode, which mounts everything twice.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createElement, StrictMode, type FunctionComponent } from "react";
import { act, create, type ReactTestRenderer } from "react-test-renderer";

import type { Client } from "../src/client.js";
import { useChannel, useConnection, useLiveState, usePresence } from "../src/react.js";
import { stage } from "./stage.js";
import { settle } from "./virtual_environment.js";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

/** Renders a component, and gives what it renders as text. */
async function mounted<P extends object>(component: FunctionComponent<P>, props: P) {
  let root!: ReactTestRenderer;
  await act(async () => {
    root = create(createElement(StrictMode, null, createElement(component, props)));
  });
  return {
    text: () => [root.toJSON()].flat().map(String).join(""),
    update: (props: P) => act(async () => root.update(createElement(StrictMode, null, createElement(component, props)))),
    unmount: () => act(async () => root.unmount()),
  };
}

test("useConnection shows the state", async () => {
  const { client, transport } = await stage();
  const view = await mounted(() => useConnection(client).name, {});
  assert.equal(view.text(), "connecting");
  await act(async () => transport.last.welcome());
  assert.equal(view.text(), "connected");
  await view.unmount();
  client.close();
});

test("useChannel subscribes once, with the newest handler", async () => {
  const seen: string[] = [];
  const { client, transport } = await stage();
  transport.last.welcome();
  const Reader: FunctionComponent<{ channel: string | null; name: string }> = ({ channel, name }) => {
    useChannel(client, channel, ({ position }) => seen.push(`${name} ${position}`), { onGap: ({ reason }) => seen.push(`${name} ${reason}`) });
    return null;
  };
  const view = await mounted<{ channel: string | null; name: string }>(Reader, { channel: "room:1", name: "a" });
  await settle();
  assert.deepEqual(transport.last.sent.map(({ type }) => type), ["subscribe"], "mounted twice, subscribed once");
  transport.last.subscribed("room:1", "1-1");
  transport.last.message("room:1", "1-2");
  await view.update({ channel: "room:1", name: "b" });
  transport.last.message("room:1", "1-3");
  transport.last.frame({ type: "gap", channel: "room:1", payload: { after: "1-3", upto: "1-9", reason: "slow", certain: true } });
  assert.deepEqual(seen, ["a 1-2", "b 1-3", "b slow"]);
  await view.update({ channel: null, name: "b" });
  await settle();
  assert.equal(transport.last.taken("unsubscribe").length, 1);
  await view.unmount();
  client.close();
});

test("usePresence shows who is there", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  const view = await mounted(({ client }: { client: Client }) => {
    const { members, isStale } = usePresence(client, "room:1");
    return `${[...members.keys()]}${isStale ? "?" : ""}`;
  }, { client });
  assert.equal(view.text(), "?");
  const since = "2026-11-20T12:00:00.000Z";
  await act(async () => transport.last.frame({ type: "presence", channel: "room:1", payload: { count: 1, members: [{ user: "alice", since }], stale: false } }));
  await act(async () => transport.last.frame({ type: "joined", channel: "room:1", payload: { user: "bob", since, count: 2 } }));
  assert.equal(view.text(), "alice,bob");
  await act(async () => transport.last.closed());
  assert.equal(view.text(), "alice,bob?");
  await view.unmount();
  client.close();
});

test("useLiveState loads, and applies messages", async () => {
  const { client, transport } = await stage();
  transport.last.welcome();
  const view = await mounted(() => {
    const { state, status } = useLiveState<number, Record<string, unknown>>(client, "room:1", {
      snapshot: async () => ({ state: 1, position: "1-1" }),
      apply: (state) => state + 1,
    });
    return `${state} ${status}`;
  }, {});
  await act(async () => settle());
  assert.equal(view.text(), "1 live");
  await act(async () => {
    transport.last.subscribed("room:1", "1-1", true);
    transport.last.message("room:1", "1-2");
  });
  assert.equal(view.text(), "2 live");
  await view.unmount();
  await settle();
  assert.equal(transport.last.taken("subscribe").length - transport.last.taken("unsubscribe").length, 0);
  client.close();
});
