// A way to Redis on which one answer is lost: Redis has done what was asked, and the caller never hears so.
import { connect, createServer } from "node:net";

export class LossyProxy {
  /** How many answers were lost: of the first call that publishes. */
  lost = 0;

  static async before(url) {
    const { hostname, port } = new URL(url);
    const proxy = new LossyProxy();
    proxy.server = createServer((client) => proxy.#carry(client, connect({ host: hostname, port })));
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.port = proxy.server.address().port;
    proxy.url = `redis://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  #carry(client, redis) {
    let isPublishing = false;
    const end = () => {
      client.destroy();
      redis.destroy();
    };
    for (const socket of [client, redis]) socket.on("error", end).on("close", end);
    client.on("data", (bytes) => {
      isPublishing ||= ["tidegate_publish", "tidegate_relay"].some((name) => bytes.includes(name));
      redis.write(bytes);
    });
    redis.on("data", (bytes) => {
      if (!isPublishing || this.lost > 0) return client.write(bytes);
      this.lost += 1;
      end();
    });
  }

  end() {
    return new Promise((resolve) => this.server.close(resolve));
  }
}
