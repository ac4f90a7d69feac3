// A page of another origin than the cluster's, which reads server-sent events.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { until } from "./deadline.js";

/** The gateways' default of `auth.cookie`. */
const TOKEN_COOKIE = "tidegate_token";
const PUBLISH_EVERY_MS = 20;

/** A backend that publishes 1, 2, 3, … into one scope, past the gateways. */
export class CountingPublisher {
  count = 0;

  constructor(redis, scope) {
    Object.assign(this, { redis, scope: `tidegate:{default/${scope}}` });
  }

  start() {
    this.isRunning = true;
    this.ended = this.#run();
  }

  async stop() {
    this.isRunning = false;
    await this.ended;
  }

  async publish() {
    this.count += 1;
    const message = JSON.stringify({ type: "counted", payload: { n: this.count, by: "a backend" } });
    const keys = [`${this.scope}:stream`, `${this.scope}:meta`];
    await this.redis.send(["FCALL", "tidegate_publish", 2, ...keys, "ops", message]);
  }

  async #run() {
    while (this.isRunning) {
      await this.publish();
      await pause(PUBLISH_EVERY_MS);
    }
  }
}

export class EventStreamPage {
  /** Opens an empty page on a port of its own, with the token in a cookie. */
  static async open(t, browser, cluster, user) {
    const server = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const self = new EventStreamPage();
    self.url = new URL("/sse?channels=", cluster.url).href;
    self.token = (await (await fetch(new URL(`/dev/token?user=${user}`, cluster.url), { method: "POST" })).text()).trim();
    const context = await browser.newContext();
    await context.addCookies([{ name: TOKEN_COOKIE, value: self.token, url: cluster.url, sameSite: "Lax" }]);
    self.page = await context.newPage();
    await self.page.goto(`http://127.0.0.1:${server.address().port}/`);
    return self;
  }

  /** Opens an `EventSource`, which connects again by itself; returns when it is subscribed. */
  async subscribe(channel) {
    await this.page.evaluate((url) => {
      globalThis.seen = { opens: 0, closed: 0, instances: [], subscribed: 0, gaps: 0, numbers: [] };
      const source = new EventSource(url, { withCredentials: true });
      source.onopen = () => (seen.opens += 1);
      source.onerror = () => (seen.closed += source.readyState === EventSource.CLOSED ? 1 : 0);
      source.onmessage = ({ data }) => seen.numbers.push(JSON.parse(data).payload.n);
      source.addEventListener("welcome", ({ data }) => seen.instances.push(JSON.parse(data).payload.instance));
      source.addEventListener("subscribed", () => (seen.subscribed += 1));
      source.addEventListener("gap", () => (seen.gaps += 1));
    }, this.url + channel);
    await until("the event stream is subscribed", async () => (await this.seen()).subscribed === 1);
  }

  seen() {
    return this.page.evaluate("seen");
  }

  async instance() {
    return (await this.seen()).instances.at(-1);
  }

  /** Waits until it has received so many more numbers. */
  async receivesMore(count) {
    const before = (await this.seen()).numbers.length;
    await until(`the page has ${count} more numbers`, async () => {
      const seen = await this.seen();
      return seen.numbers.length >= before + count || seen;
    });
  }

  /** Waits until another instance than this one serves it. */
  async left(instance) {
    await until(`the page is served by another instance than ${instance}`, async () => {
      const seen = await this.seen();
      return seen.instances.at(-1) !== instance || seen;
    });
  }

  /** It has every number from 1 on, once and in order, and no gap. */
  async hasAllOf(count) {
    await until(`the page has number ${count}`, async () => (await this.seen()).numbers.includes(count));
    const { numbers, gaps, closed } = await this.seen();
    assert.deepEqual(numbers, Array.from({ length: count }, (_, index) => index + 1), "each number once, in order");
    assert.deepEqual({ gaps, closed }, { gaps: 0, closed: 0 }, "no gap, and the browser never gave up");
  }

  /** Reads the first message by `fetch`, which can send a header; `publish` is called when it is subscribed. */
  async fetches(channel, publish) {
    await this.page.evaluate(async ({ url, token }) => {
      // Without cookies: the header alone says who it is.
      const response = await fetch(url, { headers: { authorization: `Bearer ${token}` }, credentials: "omit" });
      globalThis.fetched = { status: response.status, text: "" };
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const read = async () => {
        for (let part = await reader.read(); !part.done; part = await reader.read()) fetched.text += part.value;
      };
      void read();
      globalThis.stopFetch = () => reader.cancel();
    }, { url: this.url + channel, token: this.token });
    const text = async () => (await this.page.evaluate("fetched")).text;
    const reads = (what, pattern) => until(what, async () => pattern.test(await text()) || (await text()));
    await reads("fetch reads that it is subscribed", /^event: subscribed$/m);
    await publish();
    await reads("fetch reads a message", /^id: \S+\ndata: .*"payload":\{"n":1,/m);
    await this.page.evaluate("stopFetch()");
  }
}
