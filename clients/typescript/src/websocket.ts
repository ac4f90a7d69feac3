// The transport `websocket`: one WebSocket, which says hello with the token.
import { decode, encode } from "./codec.js";
import type { ClientFrame } from "./frame.js";
import { SUBPROTOCOL } from "./protocol.js";
import { endpoint, type Link, type LinkEvents, type OpenRequest, type Transport } from "./transport.js";

/** What the library uses of a WebSocket: the browser's, Node's, or the one of the package `ws`. */
export interface Socket {
  binaryType: string;
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}
export type SocketConstructor = new (url: string, protocols: string) => Socket;

const OPEN = 1;
/** The longest message of a client that has shown no token yet. */
const HELLO_BYTES_MAX = 16_384;
/** What a library reports when no code came. */
const LOST = 1006;

/** Frames over a WebSocket. `constructor` is needed where there is no global `WebSocket`: Node before 22. */
export function websocket(constructor?: SocketConstructor): Transport {
  return {
    name: "websocket",
    open: (request, events) => {
      const Constructor = constructor ?? (globalThis.WebSocket as SocketConstructor | undefined);
      if (!Constructor) throw new TypeError("there is no WebSocket here: give `websocket()` a constructor");
      return new WebSocketLink(new Constructor(endpoint(request.url, "ws").href, SUBPROTOCOL), request, events);
    },
  };
}

class WebSocketLink implements Link {
  readonly transport = "websocket";
  readonly liveness = "ping";
  readonly canPublish = true;
  #socket: Socket;

  constructor(socket: Socket, request: OpenRequest, events: LinkEvents) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    const { token, sessionId, channels, presence, correlationId } = request;
    const hello = (payload: object): ClientFrame => ({ type: "hello", payload, correlation_id: correlationId });
    const shown = { token, session_id: sessionId ?? undefined };
    const whole = hello({ ...shown, channels });
    const isLarge = new TextEncoder().encode(JSON.stringify(whole)).length > HELLO_BYTES_MAX;
    socket.onopen = () => this.send(isLarge ? hello(shown) : whole);
    socket.onmessage = ({ data }) => {
      const frame = decode(data);
      if (frame?.type === "welcome" && frame.timestamp === undefined) {
        if (isLarge) this.send(hello({ channels }));
        for (const channel of presence) this.send({ type: "presence", channel, correlation_id: "presence" });
      }
      if (frame) events.frame(frame);
      else events.alive();
    };
    const end = (code: number, reason: string) => {
      this.#detach();
      events.closed({ code, reason });
    };
    socket.onclose = ({ code, reason }) => end(code || LOST, reason);
    // Not every library says `close` after that, and none says more than that the connection is lost.
    socket.onerror = () => end(LOST, "");
  }

  send(frame: ClientFrame): boolean {
    if (this.#socket.readyState === OPEN) this.#socket.send(encode(frame));
    return true;
  }

  close(): void {
    this.#detach();
    this.#socket.close(1000);
  }

  /** A socket that is no longer ours may report for minutes. */
  #detach(): void {
    const nothing = () => {};
    Object.assign(this.#socket, { onopen: nothing, onmessage: nothing, onclose: nothing, onerror: nothing });
  }
}
