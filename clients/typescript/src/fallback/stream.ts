// What carries one event stream: `fetch`, or the browser's EventSource.
import type { LinkEnd } from "../transport.js";
import { EventParser, type StreamEvent } from "./event_parser.js";

export interface StreamRequest {
  /** With every parameter. */
  address: URL;
  token: string;
  /** The id to resume from. */
  cursor: string | null;
}

/** Why a stream was refused: the status, and what the gateway says. */
export interface StreamRefusal {
  status: number;
  code: string;
  message: string;
}

export interface StreamEvents {
  event(event: StreamEvent): void;
  /** Bytes came. */
  alive(): void;
  /** The gateway refused the request; the same one would be refused again. */
  refused(refusal: StreamRefusal): void;
  ended(end: Pick<LinkEnd, "code" | "reason" | "error">): void;
}

/** Opens a stream, and returns what closes it. What it reports after that is to be ignored. */
export type OpenStream = (request: StreamRequest, events: StreamEvents) => () => void;

export function openByFetch(options: { fetch?: typeof fetch; credentials?: RequestCredentials }): OpenStream {
  return ({ address, token, cursor }, events) => {
    const controller = new AbortController();
    const headers: Record<string, string> = { Accept: "text/event-stream", Authorization: `Bearer ${token}` };
    if (cursor !== null) headers["Last-Event-ID"] = cursor;
    const { credentials } = options;
    const init: RequestInit = { headers, signal: controller.signal, cache: "no-store", ...(credentials && { credentials }) };
    read((options.fetch ?? fetch)(address, init), events).catch((error) => {
      events.ended({ code: 1006, reason: "the stream was lost", error });
    });
    return () => controller.abort();
  };
}

async function read(answer: Promise<Response>, events: StreamEvents): Promise<void> {
  const response = await answer;
  if (!response.ok || !response.body) return refuse(response, events);
  const [parser, decoder] = [new EventParser(), new TextDecoder()];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    events.alive();
    for (const event of parser.push(decoder.decode(part.value, { stream: true }))) events.event(event);
  }
  events.ended({ code: 1006, reason: "the stream ended" });
}

/** A gateway says why in JSON. Anything else comes from a proxy, and may pass. */
async function refuse(response: Response, events: StreamEvents): Promise<void> {
  const { status } = response;
  const body = await response.json().catch(() => null);
  const isGateways = status >= 400 && status < 500 && typeof body?.code === "string";
  if (isGateways) events.refused({ status, code: body.code, message: String(body.message) });
  else events.ended({ code: 1006, reason: `HTTP ${status}` });
}

/** The part of an EventSource that is used here. */
export interface EventSourceLike {
  readonly readyState: number;
  addEventListener(name: string, listener: (event: any) => void): void;
  close(): void;
}
export type EventSourceConstructor = new (url: string, options: { withCredentials: boolean }) => EventSourceLike;

/** The names of events: all but `message` are types of control frames. */
const NAMES = ["message", "welcome", "subscribed", "gap", "degraded", "presence", "joined", "left", "notice", "error", "reconnect", "bye"];

export function openByEventSource(constructor?: EventSourceConstructor): OpenStream {
  return ({ address, cursor }, events) => {
    const Constructor = constructor ?? (globalThis.EventSource as EventSourceConstructor);
    if (cursor !== null) address.searchParams.set("cursor", cursor);
    const source = new Constructor(address.href, { withCredentials: true });
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        // The gateway's `error` has data; the browser's own says that the connection was lost.
        if (typeof event.data === "string") return events.event({ data: event.data, id: event.lastEventId || null, retry: null });
        source.close();
        events.ended({ code: 1006, reason: "the stream was lost or refused" });
      });
    }
    return () => source.close();
  };
}
