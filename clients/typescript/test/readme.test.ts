// Every example of the README runs, with the package as it is published, against a real gateway.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { transformSync } from "esbuild";
import { createElement } from "react";
import { create } from "react-test-renderer";

import { devToken, startGateway, until } from "./cluster.js";

const PACKAGE = new URL("../../", import.meta.url);
const FAMILIES = "[{ name = 'room', presence = true, receipts = true }]";
const readme = readFileSync(new URL("README.md", PACKAGE), "utf8");
const blocks = [...readme.matchAll(/^```(js|jsx|ts)\n(.*?)^```$/gms)].map(([, language, code]) => ({ language: language!, code: code! }));

let url: string;
const ends: (() => unknown)[] = [];
before(async () => (url = await startGateway({ after: (run) => ends.push(run) }, FAMILIES)));
after(async () => {
  for (const end of ends) await end();
});

/** Everything that the examples leave to the reader. */
function surroundings() {
  const seen: unknown[] = [];
  return {
    seen,
    url,
    token: () => devToken(url, "alice"),
    show: (...what: unknown[]) => seen.push(what),
    save: async (message: unknown) => seen.push(message),
    onMessage: (message: unknown) => seen.push(message),
    console: { log: (...what: unknown[]) => seen.push(what), warn: (...what: unknown[]) => seen.push(what) },
    sessionStorage: { getItem: () => null, setItem: () => {} },
    fetch: async (address: string) =>
      address === "/token"
        ? { text: () => devToken(url, "alice") }
        : { json: async () => ({ state: { title: "loaded" }, position: (await client.publish("collection:42:first", null)).position }) },
  };
}
type Surroundings = ReturnType<typeof surroundings>;
let client: any;

/** Runs a block in a module of its own. Returns what it declares. */
async function run(at: number, given: Surroundings): Promise<Record<string, any>> {
  const { code } = blocks[at]!;
  const script = transformSync(code.replace("wss://gateway.example.com", url), { loader: "tsx", jsx: "automatic", target: "es2022" }).code;
  const lines = script.split("\n");
  const imports = lines.filter((line) => line.startsWith("import "));
  const rest = lines.filter((line) => !line.startsWith("import ")).join("\n");
  const declared = [...rest.matchAll(/^(?:const|function) (\w+)/gm)].map(([, name]) => name!);
  const imported = imports.flatMap((line) => /\{(.*)\}/.exec(line)![1]!.split(",").map((name) => name.trim()));
  const names = ["client", ...Object.keys(given)].filter((name) => !declared.includes(name) && !imported.includes(name));
  const module = `${imports.join("\n")}\nexport default async ({ ${names.join(", ")} }) => {\n${rest}\nreturn { ${declared.join(", ")} };\n};\n`;
  const directory = new URL("build/readme/", PACKAGE);
  mkdirSync(directory, { recursive: true });
  writeFileSync(new URL(`${at}.js`, directory), module);
  return (await import(new URL(`${at}.js`, directory).href)).default({ client, ...given });
}

test("the README's examples are the ones that are run", () => {
  assert.deepEqual(blocks.map(({ language }) => language), ["js", "js", "js", "js", "js", "js", "js", "js", "jsx", "js", "ts", "js"], "a new example needs a test here");
});

test("the first example connects, subscribes and publishes", async () => {
  const given = surroundings();
  ({ client } = await run(0, given));
  ends.unshift(() => client.close());
  assert.equal(client.state.name, "connected", "it has awaited an acknowledgement");
  client.subscribe("collection:42:*", given.onMessage);
  await until("its own message comes", async () => {
    await client.publish("collection:42:ops", 1);
    return given.seen.length > 0;
  });
});

test("subscribing, and watching the connection", async () => {
  const given = surroundings();
  const { subscription } = await run(1, given);
  assert.equal(subscription.state, "ended", "its last line unsubscribes");
  await run(2, given);
});

test("a state that is built from messages", async () => {
  const given = surroundings();
  const { live } = await run(3, given);
  await until("it is loaded", () => live.status === "live");
  await client.publish("collection:42:ops", "newest");
  await until("a message is applied", () => live.state.last === "newest");
  assert.equal(live.state.title, "loaded");
  live.close();
});

test("presence and receipts", async () => {
  const given = surroundings();
  const { here } = await run(4, given);
  await until("alice is there", () => here.count === 1);
  const accepted: unknown[] = [];
  client.on("frame", ({ type, position }: { type: string; position: string }) => type === "receipt" && accepted.push(position));
  await run(5, given);
  await until("a receipt is accepted", async () => {
    if (accepted.length === 0) await client.publish("room:7:chat", "hello");
    return accepted.length > 0;
  });
});

for (const [name, at] of [["what survives the page", 6], ["several tabs", 7], ["where WebSockets are blocked", 9], ["types", 10], ["a WebSocket of the package ws", 11]] as const) {
  test(`connecting: ${name}`, async () => {
    const declared = await run(at, surroundings());
    await until("it is connected", () => declared.client.state.name === "connected");
    declared.client.close();
  });
}

test("React", async () => {
  const { Room } = await run(8, surroundings());
  const root = create(createElement(Room, { client, id: "8" }));
  await until("the page shows one member", () => JSON.stringify(root.toJSON()).includes('"connected",": ","1"'));
  root.unmount();
});
