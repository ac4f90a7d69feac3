// Redis as any language's client speaks to it: arrays of strings out, replies in. What a worker needs, and no more.
import { connect } from "node:net";

const CONNECT_DEADLINE_MS = 5_000;

export class RedisClient {
  /** Replies that are awaited, oldest first. */
  #awaited = [];
  #unread = Buffer.alloc(0);

  static async connect(url) {
    const { hostname, port } = new URL(url);
    const client = new RedisClient();
    client.socket = connect({ host: hostname, port, timeout: CONNECT_DEADLINE_MS });
    client.socket.on("data", (bytes) => client.#read(bytes));
    client.socket.on("close", () => client.#fail(new Error("Redis closed the connection")));
    await new Promise((resolve, reject) => {
      client.socket.once("connect", resolve).once("error", reject);
      client.socket.once("timeout", () => reject(new Error(`no Redis at ${url}`)));
    });
    client.socket.setTimeout(0).on("error", () => {}); // `close` follows, and fails what is awaited
    return client;
  }

  /** Sends all commands in one write, so that Redis runs them without another client's in between. */
  send(...commands) {
    const replies = commands.map(() => new Promise((resolve, reject) => this.#awaited.push({ resolve, reject })));
    this.socket.write(commands.map(encode).join(""));
    return Promise.all(replies);
  }

  end() {
    this.socket.destroy();
  }

  #read(bytes) {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    for (let reply = parse(this.#unread, 0); reply; reply = parse(this.#unread, 0)) {
      this.#unread = this.#unread.subarray(reply.end);
      const { resolve, reject } = this.#awaited.shift();
      if (reply.value instanceof Error) reject(reply.value);
      else resolve(reply.value);
    }
  }

  #fail(error) {
    for (const { reject } of this.#awaited.splice(0)) reject(error);
  }
}

const encode = (words) => {
  const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
  return `*${parts.length}\r\n${parts.join("")}`;
};

/** One whole reply and where it ends, or undefined while it is incomplete. */
function parse(bytes, start) {
  const line = bytes.indexOf("\r\n", start);
  if (line < 0) return undefined;
  const [kind, text] = [String.fromCharCode(bytes[start]), bytes.toString("utf8", start + 1, line)];
  const [size, end] = [Number(text), line + 2];
  switch (kind) {
    case "+":
      return { value: text, end };
    case "-":
      return { value: new Error(text), end };
    case ":":
      return { value: size, end };
    case "$": {
      if (size < 0) return { value: null, end };
      if (bytes.length < end + size + 2) return undefined;
      return { value: bytes.toString("utf8", end, end + size), end: end + size + 2 };
    }
    case "*": {
      const values = [];
      let at = end;
      while (values.length < size) {
        const item = parse(bytes, at);
        if (!item) return undefined;
        values.push(item.value);
        at = item.end;
      }
      return { value: values, end: at };
    }
    default:
      throw new Error(`Redis replied ${JSON.stringify(kind + text)}`);
  }
}
