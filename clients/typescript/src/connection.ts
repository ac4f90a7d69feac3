// Keeps one connection to a gateway: opens it, notices its end, and comes back.
import { backoff, CROWDED_ATTEMPT, type ServerDelay } from "./backoff.js";
import { shouldReconnect } from "./close.js";
import type { Off } from "./emitter.js";
import type { Environment, Signal } from "./environment.js";
import { isMessage, type ClientFrame, type ControlFrame, type ServerFrame, type Welcome } from "./frame.js";
import { Liveness } from "./liveness.js";
import { CLOSE_NORMAL, CLOSE_TOKEN_EXPIRED, CLOSE_TOO_MANY_CONNECTIONS, CLOSE_UNAUTHENTICATED } from "./protocol.js";
import { refusal } from "./refusal.js";
import type { ConnectionState, EndReason } from "./state.js";
import type { TokenKeeper } from "./token.js";
import type { Link, LinkEnd, OpenRequest, Transport } from "./transport.js";

/** From the first byte to `welcome`. */
const OPEN_MS = 10_000;
/** A connection that ends sooner does not end a row of failures. */
const SETTLED_MS = 5_000;
/** What a library reports when no code came. */
const LOST = 1006;

export interface ConnectionEvents {
  state(state: ConnectionState): void;
  /** Every frame that is not about the connection itself, `welcome` included. */
  frame(frame: ServerFrame): void;
  /** What to subscribe to. It is asked when a connection is opened. */
  wanted(): Pick<OpenRequest, "channels" | "presence" | "correlationId">;
}

export class Connection {
  readonly #url: string;
  readonly #transport: Transport;
  readonly #tokens: TokenKeeper;
  readonly #environment: Environment;
  readonly #events: ConnectionEvents;
  readonly #liveness: Liveness;
  #state: ConnectionState = { name: "idle" };
  #link: Link | null = null;
  /** Goes up with each attempt and each end: what belongs to an earlier number comes too late. */
  #run = 0;
  #attempt = 0;
  #settled = 0;
  #sessionId: string | null = null;
  #previous: string | null = null;
  /** What the gateway said before it closed: when to come back, and why. */
  #delay: ServerDelay | null = null;
  #error: Error | undefined;
  #cancel: Off = () => {};
  #unwatch: Off = () => {};

  constructor(url: string, transport: Transport, tokens: TokenKeeper, environment: Environment, events: ConnectionEvents) {
    this.#url = url;
    this.#transport = transport;
    this.#tokens = tokens;
    this.#environment = environment;
    this.#events = events;
    this.#liveness = new Liveness(environment, {
      ping: () => this.send({ type: "ping" }),
      lost: (reason) => this.#end({ code: LOST, reason }),
    });
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get link(): Link | null {
    return this.#state.name === "connected" ? this.#link : null;
  }

  /** Connects, if it is not doing so already. */
  open(): void {
    if (this.#state.name !== "idle" && this.#state.name !== "closed") return;
    this.#unwatch = this.#environment.watch((signal) => this.#signal(signal));
    this.#attempt = 0;
    this.#begin();
  }

  /** Ends the connection for good. */
  close(reason: EndReason): void {
    this.#drop(reason.code);
    this.#unwatch();
    this.#set({ name: "closed", reason });
  }

  /** Ends the connection, and comes back at once with what is wanted now. */
  restart(message: string): void {
    if (this.#state.name !== "connected" && this.#state.name !== "connecting") return;
    this.#drop(CLOSE_NORMAL);
    this.#wait({ code: CLOSE_NORMAL, message }, 0);
  }

  /** Sends a frame on an open session. Returns false if there is none, or if its transport cannot carry the frame. */
  send(frame: ClientFrame): boolean {
    return this.link?.send(frame) ?? false;
  }

  async #begin(): Promise<void> {
    const run = ++this.#run;
    const reason = this.#state.name === "waiting" ? { reason: this.#state.reason } : {};
    this.#set({ name: "connecting", attempt: this.#attempt, ...reason });
    let token: string | null;
    try {
      token = await this.#tokens.get();
    } catch (error) {
      if (run === this.#run) this.#end({ code: LOST, reason: "token() failed", error: error as Error });
      return;
    }
    if (run !== this.#run) return;
    if (token === null) return this.close({ code: CLOSE_UNAUTHENTICATED, message: "signed out" });
    this.#open(run, token);
  }

  #open(run: number, token: string): void {
    [this.#delay, this.#error] = [null, undefined];
    this.#cancel();
    this.#cancel = this.#environment.timer(OPEN_MS, () => this.#end({ code: LOST, reason: "no welcome in time" }));
    const own = { url: this.#url, token, sessionId: this.#sessionId, previous: this.#previous };
    const request: OpenRequest = { ...own, ...this.#events.wanted() };
    try {
      this.#link = this.#transport.open(
        request,
        {
          frame: (frame) => run === this.#run && this.#frame(frame),
          alive: () => run === this.#run && this.#liveness.heard(),
          closed: (end) => run === this.#run && this.#end(end),
        },
        this.#environment,
      );
    } catch (error) {
      // A page may be forbidden to connect there. Nothing that comes back later changes that, but its owner might.
      this.#end({ code: LOST, reason: "the connection could not be opened", error: error as Error });
    }
  }

  #frame(frame: ServerFrame): void {
    this.#liveness.heard();
    if (isMessage(frame)) return this.#events.frame(frame);
    switch (frame.type) {
      case "welcome":
        this.#welcome(frame.payload);
        break;
      case "refreshed":
        this.#tokens.accepted(frame.payload?.expires_in_ms, () => this.renew());
        break;
      case "reconnect":
        this.#delay = { ms: frame.payload.after_ms, exact: true };
        break;
      case "error":
        this.#refused(frame);
        break;
      case "degraded":
        if (this.#state.name === "connected") this.#set({ ...this.#state, degraded: frame.payload.degraded });
        break;
      case "bye":
        // The close frame may not come: a proxy may drop it, a library may hide it.
        this.#end(frame.payload);
        return;
    }
    this.#events.frame(frame);
  }

  #welcome(session: Welcome): void {
    this.#cancel();
    this.#sessionId = session.session_id;
    this.#settled = this.#environment.now() + SETTLED_MS;
    const link = this.#link!;
    this.#previous = link.transport;
    this.#liveness.start(link.liveness, session.ping_interval_ms);
    this.#tokens.accepted(session.expires_in_ms, () => this.renew());
    this.#set({ name: "connected", transport: link.transport, session, degraded: false });
  }

  #refused(frame: ControlFrame<"error">): void {
    const { code, retry_after_ms } = frame.payload;
    if (frame.channel !== undefined) return;
    this.#error = refusal(frame);
    // Counts if the connection ends now.
    if (retry_after_ms !== undefined) this.#delay = { ms: retry_after_ms, exact: false };
    if (code === "token_expired" && this.#state.name === "connected") this.renew();
  }

  /** Gives the gateway a fresh token. A transport that cannot do so comes back with one. */
  async renew(): Promise<void> {
    const run = this.#run;
    try {
      const token = await this.#tokens.fetch();
      if (run !== this.#run) return;
      if (token === null) return this.close({ code: CLOSE_UNAUTHENTICATED, message: "signed out" });
      if (!this.send({ type: "refresh", payload: { token } })) return this.restart("a new token");
    } catch {
      // The token at hand may last a little longer.
    }
    if (run === this.#run && this.#tokens.isRenewable) this.#tokens.again(() => this.renew());
  }

  #end({ code, reason, wait, error = this.#error }: LinkEnd): void {
    const isFinal = this.#isFinal(code);
    this.#drop(code);
    const why: EndReason = { code, message: error?.message ?? (reason || "the connection was lost"), ...(error && { error }) };
    if (isFinal) {
      this.#unwatch();
      return this.#set({ name: "closed", reason: why });
    }
    if (this.#settled !== 0 && this.#environment.now() >= this.#settled) this.#attempt = 0;
    if (code === CLOSE_TOO_MANY_CONNECTIONS) this.#attempt = Math.max(this.#attempt, CROWDED_ATTEMPT);
    this.#settled = 0;
    const server = wait === undefined ? this.#delay : { ms: wait, exact: false };
    this.#wait(why, backoff(this.#attempt++, this.#environment.random(), server));
  }

  #isFinal(code: number): boolean {
    const isTokenRefused = code === CLOSE_UNAUTHENTICATED || code === CLOSE_TOKEN_EXPIRED;
    if (!isTokenRefused) return !shouldReconnect(code);
    // A fresh token helps, unless this one was fresh already.
    const wasReused = this.#tokens.isReused;
    this.#tokens.forget();
    return !this.#tokens.isRenewable || (code === CLOSE_UNAUTHENTICATED && !wasReused);
  }

  #wait(reason: EndReason, ms: number): void {
    const run = ++this.#run;
    this.#cancel = this.#environment.timer(ms, () => run === this.#run && this.#begin());
    this.#set({ name: "waiting", attempt: this.#attempt, until: this.#environment.date() + ms, reason });
  }

  #drop(code: number): void {
    this.#run++;
    this.#cancel();
    this.#liveness.stop(code);
    this.#tokens.stop();
    this.#link?.close();
    this.#link = null;
  }

  #signal(signal: Signal): void {
    switch (signal) {
      case "suspend":
        // A page with an open connection is not kept in the browser's cache.
        if (this.#state.name === "closed") return;
        this.#drop(CLOSE_NORMAL);
        this.#wait({ code: CLOSE_NORMAL, message: "the page is suspended" }, OPEN_MS);
        break;
      case "resume":
      case "online":
        if (this.#state.name === "waiting") {
          this.#cancel();
          this.#attempt = 0;
          this.#begin();
          return;
        }
      // falls through
      case "visible":
      case "offline":
        if (this.#state.name === "connected") this.#liveness.probe();
    }
  }

  #set(state: ConnectionState): void {
    this.#state = state;
    this.#events.state(state);
  }
}
