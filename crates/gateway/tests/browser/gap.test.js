// What docs/protocol.md tells an application to do on a gap: its own JavaScript, in a page, against an erased history.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { test } from "node:test";

import { launch } from "./chromium.js";
import { until } from "./deadline.js";
import { Program, TIDEGATE } from "./program.js";
import { RedisClient } from "./redis_client.js";

const KEYS = ["tidegate:{default/collection:42}:stream", "tidegate:{default/collection:42}:meta"];

test("a page loads its state afresh when messages are missing", async (t) => {
  const port = await freePort();
  const redis = new Program("redis-server", ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
  t.after(() => redis.end("SIGTERM"));
  await redis.wrote(/Ready to accept connections/);
  const address = ["--dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
  const gateway = new Program(TIDEGATE, [...address, "--redis-url", `redis://127.0.0.1:${port}`]);
  t.after(() => gateway.end("SIGTERM"));
  const [, url] = await gateway.wrote(/^(http:\S+)$/m);
  const backend = new Backend(await RedisClient.connect(`redis://127.0.0.1:${port}`));
  t.after(() => backend.redis.end());
  const browser = await launch();
  t.after(() => browser.close());
  await until("the gateway has loaded its functions", () => backend.isReady());

  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.route("**/collections/42", async (route) => route.fulfill({ json: await backend.snapshot() }));
  await page.goto(url);
  await backend.change(1);
  await page.evaluate(await example(url));
  const shows = (...numbers) =>
    until(`the page shows ${numbers}`, async () => {
      const state = await page.evaluate("shown()");
      return JSON.stringify(state) === JSON.stringify(numbers) || String(state);
    });

  await shows(1);
  await backend.change(2);
  await shows(1, 2);
  assert.equal(backend.snapshots, 1, "the first load, and nothing since");

  // What was published is nowhere any more; the next message tells the gateway.
  await backend.redis.send(["DEL", ...KEYS]);
  const { make, send } = backend.hold();
  await backend.change(3);
  await until("the page asks for a snapshot", () => backend.asked === 2);
  const holdsBack = (count) => until(`it holds back ${count}`, () => page.evaluate(`heldBack() === ${count}`));
  await backend.change(4); // which the snapshot will have …
  await holdsBack(1);
  make();
  await until("there is one", () => backend.snapshots === 2);
  await backend.change(5); // … and this one not.
  await holdsBack(2);
  send();
  await shows(1, 2, 3, 4, 5);
  await backend.change(6);
  await shows(1, 2, 3, 4, 5, 6);
  assert.equal(backend.snapshots, 2, "one gap, one load");
  assert.deepEqual(errors, []);
});

/** The application's server: it stores a change before it publishes it, and reads the position before the state. */
class Backend {
  state = [];
  asked = 0;
  snapshots = 0;
  #mayMake = Promise.resolve();
  #maySend = Promise.resolve();

  constructor(redis) {
    this.redis = redis;
  }

  isReady() {
    return this.redis.send(["FCALL_RO", "tidegate_version", 0]).then(() => true, () => false);
  }

  async change(n) {
    this.state.push(n);
    const message = JSON.stringify({ type: "added", payload: { n } });
    await this.redis.send(["FCALL", "tidegate_publish", 2, ...KEYS, "ops", message]);
  }

  async snapshot() {
    this.asked += 1;
    await this.#mayMake;
    const call = (how, name) => this.redis.send([how, name, 2, ...KEYS, "", "0"]).then(([answer]) => answer);
    const [position] = (await call("FCALL_RO", "tidegate_read")) ?? (await call("FCALL", "tidegate_open"));
    const snapshot = { position, state: [...this.state] };
    this.snapshots += 1;
    await this.#maySend;
    return snapshot;
  }

  /** Snapshots are made, and sent, when the functions that this returns are called. */
  hold() {
    const gates = {};
    this.#mayMake = new Promise((resolve) => (gates.make = resolve));
    this.#maySend = new Promise((resolve) => (gates.send = resolve));
    return gates;
  }
}

/** The second and the third example of docs/protocol.md as one script, with what they leave to the application. */
async function example(url) {
  const text = await readFile(new URL("../../../../docs/protocol.md", import.meta.url), "utf8");
  const blocks = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
  const client = blocks.find((code) => code.includes("onAfresh(frame);"));
  const state = blocks.find((code) => code.includes("async function onAfresh()"));
  assert.ok(client && state, "docs/protocol.md has both examples");
  const held = client.replace('{ "collection:42:*": null, "system:*": null }', '{ "collection:42:*": null }');
  assert.notEqual(held, client, "the second example hears two channels");
  return `(() => {
    const url = ${JSON.stringify(new URL("/ws", url).href.replace("http", "ws"))};
    const token = async () => (await (await fetch("/dev/token?user=alice", { method: "POST" })).text()).trim();
    const apply = (state, frame) => state.push(frame.payload.n);
    ${held}
    ${state}
    globalThis.shown = () => state;
    globalThis.heldBack = () => waiting.length;
    connect();
  })()`;
}

/** A port that nobody has now. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}
