// A real cluster for tests: Redis, three gateways and HAProxy, as `cargo xtask cluster` starts them.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { WebSocket as WsSocket } from "ws";

import { websocket, type SocketConstructor } from "../src/websocket.js";

const APPARATUS = new URL("../../../../crates/gateway/tests/browser/", import.meta.url);
const apparatus = (name: string): Promise<any> => import(new URL(name, APPARATUS).href);
const { Cluster } = await apparatus("cluster.js");
const { RedisClient } = await apparatus("redis_client.js");
const { CountingPublisher } = await apparatus("event_stream.js");
const { Program, TIDEGATE } = await apparatus("program.js");
export const { until } = await apparatus("deadline.js");

/** A token of a gateway in dev mode. */
export async function devToken(url: string, user: string): Promise<string> {
  const answer = await fetch(new URL(`/dev/token?user=${user}`, url), { method: "POST" });
  assert.equal(answer.status, 200);
  return (await answer.text()).trim();
}

/** Starts one gateway with a memory of its own, and returns its address. */
export async function startGateway(t: { after(run: () => unknown): void }, families = "[]"): Promise<string> {
  const settings = ["broker=memory", `families=${families}`].flatMap((setting) => ["--set", setting]);
  const addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
  const gateway = new Program(TIDEGATE, ["serve", "--dev", ...addresses, ...settings]);
  // A second signal ends a gateway at once.
  t.after(async () => {
    gateway.process.kill("SIGTERM");
    await gateway.end("SIGTERM");
  });
  return (await gateway.wrote(/^(http:\S+)$/m))[1];
}

export class TestCluster {
  readonly #cluster: any;
  readonly #redis: any;

  private constructor(cluster: any, redis: any) {
    this.#cluster = cluster;
    this.#redis = redis;
  }

  static async start(t: TestContext): Promise<TestCluster> {
    const cluster = await Cluster.start();
    t.after(() => cluster.end());
    const redis = await RedisClient.connect(cluster.redis);
    t.after(() => redis.end());
    return new TestCluster(cluster, redis);
  }

  /** The address of HAProxy. */
  get url(): string {
    return this.#cluster.url;
  }

  token(user: string): Promise<string> {
    return devToken(this.url, user);
  }

  /** Ends a gateway, or Redis, by a signal. */
  kill(name: string, signal: "SIGKILL" | "SIGTERM"): Promise<string> {
    return this.#cluster.kill(name, signal);
  }

  /** A backend that publishes 1, 2, 3, … to the topic `ops` of the scope. */
  publisher(scope: string): { count: number; start(): void; stop(): Promise<void>; publish(): Promise<void> } {
    return new CountingPublisher(this.#redis, scope);
  }
}

/** Node's own WebSocket, or the one of `ws`. */
export const webSockets: [string, ReturnType<typeof websocket>][] = [
  ["the global WebSocket", websocket()],
  ["the package ws", websocket(WsSocket as unknown as SocketConstructor)],
];
