// The seam between the client and what carries its frames.
import type { Environment } from "./environment.js";
import type { ClientFrame, Resume, ServerFrame } from "./frame.js";

/** What a client says when it connects. */
export interface OpenRequest {
  /** The address that was given to `connect`. */
  url: string;
  token: string;
  /** The session to continue. */
  sessionId: string | null;
  channels: Resume[];
  /** Channels in whose scopes the client asks who is there. */
  presence: string[];
  /** The id that the answers to the request carry, where a transport has such ids. */
  correlationId: string;
  /** The transport of the session so far. */
  previous: string | null;
}

/** How a link ended without being closed by the client. */
export interface LinkEnd {
  /** A close code; 1006 if none came. */
  code: number;
  reason: string;
  /** The shortest wait that the gateway asked for, in milliseconds. */
  wait?: number;
  error?: Error;
}

/** What a link reports. Nothing comes after `closed`, nor after the client has closed the link. */
export interface LinkEvents {
  frame(frame: ServerFrame): void;
  /** Something came that is no frame: the connection works. */
  alive(): void;
  closed(end: LinkEnd): void;
}

/** One connection to a gateway, open or being opened. */
export interface Link {
  readonly transport: string;
  /** How a dead connection is noticed: by a `ping` that is not answered, or by the transport's own means. */
  readonly liveness: "ping" | "own";
  /** Whether messages can be published by it. */
  readonly canPublish: boolean;
  /** Sends a frame. Returns false if this transport cannot carry it. */
  send(frame: ClientFrame): boolean;
  /** Ends it on purpose. */
  close(): void;
}

export interface Transport {
  readonly name: string;
  open(request: OpenRequest, events: LinkEvents, environment: Environment): Link;
}

/** The address of an endpoint of the gateway (`ws`, `sse`), from the one that was given to `connect`. */
export function endpoint(url: string, name: "ws" | "sse"): URL {
  const address = new URL(url, globalThis.location?.href);
  const scheme = name === "ws" ? "ws" : "http";
  if (!/^(ws|http)s?:$/.test(address.protocol)) throw new TypeError(`the address is not ws, wss, http or https: ${url}`);
  const [, prefix, tenant = ""] = /^(.*?)(?:\/(?:ws|sse)(\/[^/]+)?)?\/?$/.exec(address.pathname)!;
  // A URL does not change from http to ws by assignment in every browser.
  return new URL(`${scheme}${/^(wss|https):$/.test(address.protocol) ? "s" : ""}://${address.host}${prefix}/${name}${tenant}${address.search}`);
}
