// A client of a cluster that counts what it gets, and keeps what else it is told.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";

import { connect, type Client } from "../src/client.js";
import type { Subscription } from "../src/subscription.js";
import type { Transport } from "../src/transport.js";
import { until, type TestCluster } from "./cluster.js";

export interface Counted {
  counted: { n: number; by: string };
}

export interface ReaderOptions {
  cluster: TestCluster;
  transport: Transport;
  channel: string;
  /** Another address than the cluster's: a proxy before it. */
  url?: string;
  user?: string;
}

export class CountingReader {
  readonly client: Client<Counted>;
  readonly numbers: number[] = [];
  readonly problems: unknown[] = [];
  /** The instance and the transport of each connection. */
  readonly connections: { instance: string; transport: string }[] = [];
  readonly #subscription: Subscription<Counted>;

  constructor(t: TestContext, { cluster, transport, channel, url = cluster.url, user = "alice" }: ReaderOptions) {
    this.client = connect<Counted>(url, { token: () => cluster.token(user), transport });
    t.after(() => this.client.close());
    this.client.on("error", (error) => this.problems.push(error));
    let isConnected = false;
    this.client.on("state", (state) => {
      if (state.name === "connected" && !isConnected) this.connections.push({ instance: state.session.instance, transport: state.transport });
      isConnected = state.name === "connected";
    });
    this.#subscription = this.client.subscribe(channel, ({ payload }) => this.numbers.push(payload.n));
    this.#subscription.on("gap", (gap) => this.problems.push(gap));
    this.#subscription.on("error", (error) => this.problems.push(error));
  }

  get instance(): string {
    return this.connections.at(-1)!.instance;
  }

  /** Waits until the subscription has begun. */
  async begun(): Promise<this> {
    await until("the subscription has begun", () => this.#subscription.state === "live");
    return this;
  }

  async receivesMore(count: number): Promise<void> {
    const goal = this.numbers.length + count;
    await until(`${goal} messages came`, () => this.numbers.length >= goal);
  }

  /** Waits until the client is connected to another instance than this one. */
  async left(instance: string): Promise<void> {
    await until(`the client has left ${instance}`, () => this.client.state.name === "connected" && this.instance !== instance);
  }

  /** Each number once, in order, and nothing else. */
  async hasAll(count: number): Promise<void> {
    await until(`message ${count} came`, () => (this.numbers.at(-1) ?? 0) >= count);
    assert.deepEqual(this.numbers, Array.from({ length: count }, (_, index) => index + 1));
    assert.deepEqual(this.problems, []);
  }
}
