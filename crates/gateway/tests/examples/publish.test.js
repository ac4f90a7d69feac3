// The examples of docs/redis.md, each as it stands there, while the answer of its first publishing call is lost.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { Cluster } from "../browser/cluster.js";
import { Program, TIDEGATE } from "../browser/program.js";
import { RedisClient } from "../browser/redis_client.js";
import { LossyProxy } from "./lossy_proxy.js";
import { blocks } from "./markdown.js";

const PAGE = "docs/redis.md";
/** Where the lane has put what the examples import. */
const HOME = process.env.EXAMPLES_HOME;

let cluster, redis;
before(async () => {
  cluster = await Cluster.start();
  redis = await RedisClient.connect(cluster.redis);
});
after(async () => {
  redis?.end();
  await cluster?.end();
});

/** Runs one example, as often as it fails for the lost answer, and holds the scopes' streams against what it is to
 * publish. */
async function publishes(t, command, args, expected, { fails = 0 } = {}) {
  const proxy = await LossyProxy.before(cluster.redis);
  t.after(() => proxy.end());
  const before = await Promise.all(Object.keys(expected).map(entries));
  const environment = {
    cwd: HOME,
    REDIS_URL: proxy.url,
    REDIS_PORT: String(proxy.port),
    PRODUCT: TIDEGATE,
    REAL_PATH: process.env.PATH,
    PATH: `${HOME}/bin:${process.env.PATH}`,
  };
  for (let failed = 0; failed < fails; failed += 1) {
    assert.notEqual(await new Program(command, args, environment).ended, 0, "its exit code says that the answer was lost");
  }
  const written = await new Program(command, args, environment).succeeds();
  assert.equal(proxy.lost, 1, "the answer of the first publishing call is lost");
  const now = await Promise.all(Object.keys(expected).map(entries));
  const added = Object.keys(expected).map((scope, index) => [scope, now[index] - before[index]]);
  assert.deepEqual(Object.fromEntries(added), expected, "every message is stored, and none twice");
  return written;
}

const entries = async (scope) => (await redis.send(["XLEN", `tidegate:{default/${scope}}:stream`]))[0];

/** The position that an example prints, which must be that of the scope's newest message. */
async function assertNewest(scope, printed) {
  const [[[id]]] = await redis.send(["XREVRANGE", `tidegate:{default/${scope}}:stream`, "+", "-", "COUNT", "1"]);
  assert.ok(printed.includes(id), `${printed} says where the message stands: ${id}`);
}

/** The commands of the page, which reach Redis through the proxy. */
const COMMANDS = {
  "redis-cli": `PATH=$REAL_PATH exec redis-cli -p "$REDIS_PORT" "$@"`,
  tidegate: `subcommand=$1; shift; exec "$PRODUCT" "$subcommand" --redis-url "$REDIS_URL" "$@"`,
};

before(async () => {
  await mkdir(`${HOME}/bin`, { recursive: true });
  for (const [name, line] of Object.entries(COMMANDS)) {
    await writeFile(`${HOME}/bin/${name}`, `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }
  await writeFile(`${HOME}/ops.ndjson`, [1, 2, 3].map((n) => `{"n":${n}}\n`).join(""));
});

test("the page's examples are the ones that are run", async () => {
  const languages = ["sh", "python", "js", "go"];
  const counts = await Promise.all(languages.map(async (language) => (await blocks(PAGE, language)).length));
  assert.deepEqual(counts, [3, 1, 1, 1], "a new example needs a test here");
});

test("redis-cli, run again", async (t) => {
  const [code] = await blocks(PAGE, "sh");
  const printed = await publishes(t, "sh", ["-c", `set -e\n${code}`], { "collection:42": 1 }, { fails: 1 });
  await assertNewest("collection:42", printed);
});

test("tidegate publish, one message and one a line, run again", async (t) => {
  const [, code] = await blocks(PAGE, "sh");
  await publishes(t, "sh", ["-c", `set -e\n${code}`], { "collection:42": 4 }, { fails: 1 });
});

test("Python: redis-py repeats the call", async (t) => {
  const [code] = await blocks(PAGE, "python");
  await mkdir(HOME, { recursive: true });
  await writeFile(`${HOME}/publish.py`, code);
  const printed = await publishes(t, `${HOME}/venv/bin/python`, ["publish.py"], { "user:42": 1 });
  await assertNewest("user:42", printed);
});

test("Node: the example repeats the call", async (t) => {
  const [code] = await blocks(PAGE, "js");
  await writeFile(`${HOME}/publish.mjs`, code);
  const printed = await publishes(t, "node", ["publish.mjs"], { system: 1 });
  await assertNewest("system", printed);
});

test("Go: go-redis repeats the call", async (t) => {
  const [code] = await blocks(PAGE, "go");
  await mkdir(`${HOME}/go`, { recursive: true });
  await writeFile(`${HOME}/go/main.go`, code);
  const printed = await publishes(t, "go", ["run", "-C", "go", "."], { "collection:7": 1 });
  await assertNewest("collection:7", printed);
});
