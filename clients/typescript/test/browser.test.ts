// The library in Chromium: two tabs with one connection, a frozen page, and a network that goes and comes back.
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";

import { build } from "esbuild";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

import { TestCluster, until } from "./cluster.js";

const SOURCES = new URL("../src/", import.meta.url).pathname;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];

/** What a page knows: the library, and what this test keeps of its client. */
interface Tab extends Window {
  library: typeof import("../src/index.js") & typeof import("../src/tabs/index.js");
  client: import("../src/client.js").Client<{ counted: { n: number } }>;
  numbers: number[];
  problems: unknown[];
}

let [browser, bundle]: [Browser | null, string] = [null, ""];
before(async () => {
  const contents = 'export * from "./index.js"; export * from "./tabs/index.js";';
  const options = { bundle: true, format: "iife", globalName: "library", write: false } as const;
  bundle = (await build({ stdin: { contents, resolveDir: SOURCES }, ...options })).outputFiles[0]!.text;
  browser = await chromium.launch({ executablePath: process.env.BROWSER_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});
after(() => browser?.close());

/** A page of the cluster whose client counts. */
async function open(context: BrowserContext, cluster: TestCluster, scope: string, how: "connect" | "connectTabs"): Promise<Page> {
  const page = await context.newPage();
  await page.goto(cluster.url);
  await page.evaluate(`${bundle}; window.library = library;`);
  await page.evaluate(
    ([how, channel]) => {
      const tab = window as unknown as Tab;
      const token = async () => (await (await fetch("/dev/token?user=alice", { method: "POST" })).text()).trim();
      [tab.numbers, tab.problems] = [[], []];
      tab.client = tab.library[how]<{ counted: { n: number } }>(location.origin, { token, name: "alice" });
      const subscription = tab.client.subscribe(channel, ({ payload }) => tab.numbers.push(payload.n));
      subscription.on("gap", (gap) => tab.problems.push(gap));
      tab.client.on("error", (error) => tab.problems.push(String(error)));
    },
    [how, `${scope}:*`] as const,
  );
  return page;
}

const numbers = (page: Page) => page.evaluate(() => (window as unknown as Tab).numbers);
const state = (page: Page) => page.evaluate(() => (window as unknown as Tab).client.state);

async function connected(page: Page): Promise<void> {
  await until("the page is connected", async () => (await state(page)).name === "connected");
}

/** Each number from `first` on once, in order, and nothing else. */
async function hasAll(page: Page, first: number, last: number): Promise<void> {
  await until(`message ${last} came`, async () => (await numbers(page)).at(-1) === last);
  assert.deepEqual(await numbers(page), Array.from({ length: last - first + 1 }, (_, index) => first + index));
  assert.deepEqual(await page.evaluate(() => (window as unknown as Tab).problems), []);
}

async function stage(t: TestContext, scope: string) {
  const cluster = await TestCluster.start(t);
  const context = await browser!.newContext();
  t.after(() => context.close());
  const publisher = cluster.publisher(scope);
  const receivesMore = async (page: Page, count: number) => {
    const goal = (await numbers(page)).length + count;
    await until(`${goal} messages came`, async () => (await numbers(page)).length >= goal);
  };
  return { cluster, context, publisher, receivesMore };
}

/** Publishes until each page has got a message, and returns the first number that each of them has. */
async function begin(pages: Page[], publisher: { publish(): Promise<void> }): Promise<number[]> {
  for (const page of pages) await connected(page);
  await until("every page has begun", async () => {
    await publisher.publish();
    return (await Promise.all(pages.map(numbers))).every((seen) => seen.length > 0);
  });
  return Promise.all(pages.map(async (page) => (await numbers(page))[0]!));
}

test("two tabs have one connection, also when the tab that has it is closed", async (t) => {
  const { cluster, context, publisher, receivesMore } = await stage(t, "collection:97");
  const one = await open(context, cluster, "collection:97", "connectTabs");
  await connected(one);
  const two = await open(context, cluster, "collection:97", "connectTabs");
  const [, first] = await begin([one, two], publisher);
  const session = async (page: Page) => {
    const now = await state(page);
    return now.name === "connected" && now.session.session_id;
  };
  assert.equal(await session(one), await session(two), "one session for both");
  publisher.start();
  t.after(() => publisher.stop());
  await receivesMore(two, 20);
  await one.close();
  await receivesMore(two, 20);
  await publisher.stop();
  await hasAll(two, first!, publisher.count);
});

test("a page that was frozen, and one whose network was away, miss nothing", async (t) => {
  const { cluster, context, publisher, receivesMore } = await stage(t, "collection:98");
  const page = await open(context, cluster, "collection:98", "connect");
  const [first] = await begin([page], publisher);
  publisher.start();
  t.after(() => publisher.stop());
  await receivesMore(page, 20);
  const devtools = await context.newCDPSession(page);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  const { count } = publisher;
  await until("messages are published meanwhile", () => publisher.count > count + 50);
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await receivesMore(page, 50);
  await context.setOffline(true);
  const at = publisher.count;
  await until("messages are published meanwhile", () => publisher.count > at + 50);
  await context.setOffline(false);
  await receivesMore(page, 50);
  await publisher.stop();
  await hasAll(page, first!, publisher.count);
});
