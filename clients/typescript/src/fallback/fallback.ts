// The transport that finds the best one of several that works, and tries the better ones again.
import type { Off } from "../emitter.js";
import type { Environment } from "../environment.js";
import type { Link, LinkEnd, LinkEvents, OpenRequest, Transport } from "../transport.js";

/** A transport that says nothing for so long is given up for the next one. */
const OPEN_MS = 5_000;
/** Failures of the best transport before the next one is tried: one may be the instance's. */
const FAILURES_MAX = 2;
/** Until better transports are tried again, and the longest time between two tries. */
const UPGRADE_MS = 60_000;
const UPGRADE_MS_MAX = 15 * 60_000;
const KEY = "tidegate.transport";

export interface FallbackOptions {
  /** Where the transport is remembered that works; the page's `sessionStorage` unless given. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
}

/** The transports, the best one first. */
export function fallback(transports: Transport[], options: FallbackOptions = {}): Transport {
  if (transports.length === 0) throw new TypeError("fallback() needs a transport");
  return new Fallback(transports, options.storage === undefined ? sessionStorage() : options.storage);
}

class Fallback implements Transport {
  readonly name = "fallback";
  readonly #transports: Transport[];
  readonly #storage: FallbackOptions["storage"];
  #at = 0;
  #failures = 0;
  #upgrade = UPGRADE_MS;

  constructor(transports: Transport[], storage: FallbackOptions["storage"]) {
    this.#transports = transports;
    this.#storage = storage;
    const remembered = storage?.getItem(KEY);
    this.#at = Math.max(0, transports.findIndex(({ name }) => name === remembered));
  }

  open(request: OpenRequest, events: LinkEvents, environment: Environment): Link {
    const transport = this.#transports[this.#at]!;
    /** Whether the gateway has said anything: then the transport works, whatever it said. */
    let hasSpoken = false;
    let link: Link | null = null;
    let cancelUpgrade: Off = () => {};
    const failed = (isSilent: boolean) => {
      cancelOpen();
      cancelUpgrade();
      if (!hasSpoken) this.#failed(isSilent);
      hasSpoken = true;
    };
    const end = (reason: LinkEnd, isSilent: boolean) => {
      failed(isSilent);
      events.closed(reason);
    };
    const silent = () => {
      link?.close();
      end({ code: 1006, reason: `nothing came by ${transport.name}` }, true);
    };
    // Behind the last one there is nothing to change to: it has the time that the client gives it.
    const cancelOpen = this.#at < this.#transports.length - 1 ? environment.timer(OPEN_MS, silent) : () => {};
    const heard: LinkEvents = {
      alive: () => events.alive(),
      frame: (frame) => {
        hasSpoken = true;
        cancelOpen();
        if (frame.type === "welcome" && frame.timestamp === undefined) {
          cancelUpgrade = this.#works(request, environment, () => {
            link?.close();
            end({ code: 1012, reason: "a better transport works", wait: 0 }, false);
          });
        }
        events.frame(frame);
      },
      closed: (reason) => end(reason, false),
    };
    try {
      link = transport.open(request, heard, environment);
    } catch (error) {
      // It does not exist here.
      failed(true);
      throw error;
    }
    const { transport: name, liveness, canPublish } = link;
    const close = () => {
      failed(false);
      link.close();
    };
    return { transport: name, liveness, canPublish, send: (frame) => link.send(frame), close };
  }

  #failed(isSilent: boolean): void {
    if (++this.#failures < FAILURES_MAX && !isSilent && this.#at === 0) return;
    this.#failures = 0;
    this.#at = (this.#at + 1) % this.#transports.length;
  }

  /** Remembers the transport, and tries better ones from time to time. */
  #works(request: OpenRequest, environment: Environment, change: () => void): Off {
    this.#failures = 0;
    this.#storage?.setItem(KEY, this.#transports[this.#at]!.name);
    if (this.#at === 0) this.#upgrade = UPGRADE_MS;
    const offs: Off[] = [];
    const later = () => {
      const wait = this.#upgrade * (1 + environment.random());
      this.#upgrade = Math.min(this.#upgrade * 2, UPGRADE_MS_MAX);
      const attempt = (at: number) => {
        if (at === this.#at) return later();
        offs.push(this.#tries(at, request, environment, (works) => (works ? this.#change(at, change) : attempt(at + 1))));
      };
      offs.push(environment.timer(wait, () => attempt(0)));
    };
    if (this.#at > 0) later();
    return () => offs.forEach((off) => off());
  }

  #change(at: number, change: () => void): void {
    this.#at = at;
    change();
  }

  /** Connects by a transport, without a session and without channels, and sees whether it is welcome. */
  #tries(at: number, request: OpenRequest, environment: Environment, tell: (works: boolean) => void): Off {
    let link: Link | null = null;
    const end = () => {
      cancel();
      link?.close();
    };
    const done = (works: boolean) => {
      end();
      tell(works);
    };
    const cancel = environment.timer(OPEN_MS, () => done(false));
    const trial: OpenRequest = { ...request, sessionId: null, channels: [], presence: [], previous: null };
    const frame: LinkEvents["frame"] = ({ type }) => done(type === "welcome");
    try {
      link = this.#transports[at]!.open(trial, { frame, alive: () => {}, closed: () => done(false) }, environment);
    } catch {
      done(false);
    }
    return end;
  }
}

function sessionStorage(): FallbackOptions["storage"] {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    // Pages may be forbidden to store anything.
    return null;
  }
}
