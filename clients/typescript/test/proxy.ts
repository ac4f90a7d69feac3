// A proxy between a client and a cluster, which does what proxies do to long connections.
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { TestContext } from "node:test";

export interface ProxyFaults {
  /** Answers each upgrade to a WebSocket with 403. */
  blocksWebSockets?: boolean;
  /** Swallows what the server sends on an event stream. */
  buffersStreams?: boolean;
  /** Cuts a connection on which nothing was sent for so long. */
  idleMs?: number;
}

export class Proxy {
  readonly faults: ProxyFaults;
  readonly #sockets = new Set<Socket>();
  /** How many connections were cut because they were idle. */
  cuts = 0;
  /** The requests that came, by their first lines. */
  readonly requests: string[] = [];
  url = "";

  private constructor(faults: ProxyFaults) {
    this.faults = faults;
  }

  /** A proxy before `target`, such as `http://127.0.0.1:8080/`. */
  static async start(t: TestContext, target: string, faults: ProxyFaults): Promise<Proxy> {
    const proxy = new Proxy(faults);
    const { hostname, port } = new URL(target);
    const server = createServer((client) => proxy.#carry(client, connect(Number(port), hostname)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      server.close();
      proxy.cut();
    });
    proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return proxy;
  }

  /** Cuts every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #carry(client: Socket, server: Socket): void {
    const both = [client, server];
    let [head, isStream] = ["", false];
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        both.forEach((other) => other.destroy());
      });
      if (this.faults.idleMs !== undefined) socket.setTimeout(this.faults.idleMs);
    }
    client.on("timeout", () => {
      this.cuts++;
      client.destroy();
    });
    client.on("data", (bytes) => {
      if (!head.includes("\r\n\r\n")) {
        head += bytes.toString("latin1");
        if (!head.includes("\r\n\r\n")) return;
        this.requests.push(head.slice(0, head.indexOf("\r\n")));
        isStream = head.startsWith("GET /sse");
        if (this.faults.blocksWebSockets && /^upgrade: *websocket/im.test(head)) {
          client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
          return;
        }
        bytes = Buffer.from(head, "latin1");
      }
      server.write(bytes);
    });
    server.on("data", (bytes) => {
      if (!(isStream && this.faults.buffersStreams)) client.write(bytes);
    });
  }
}
