// The token: fetched before a connection needs it, and renewed before it expires.
import type { Off } from "./emitter.js";
import type { Environment } from "./environment.js";

/** Returns a token, or null if the user is signed out: the client then closes. */
export type TokenSource = string | (() => string | null | Promise<string | null>);

/** A callback that takes longer has failed. */
const FETCH_MS = 20_000;
/** A token is renewed this long before it expires, or earlier by a random time, but not before half of its life. */
const LEAD_MS = 30_000;
/** A token that expires sooner is not worth an attempt to connect. */
const USABLE_MS = 5_000;
/** Between two attempts to renew a token. */
const AGAIN_MS = 5_000;

export class TokenKeeper {
  readonly #source: TokenSource;
  readonly #environment: Environment;
  #token: string | null = null;
  /** By the environment's `now`. Unknown if the gateway does not say it. */
  #expires: number | null = null;
  /** It was fetched and not used yet. */
  #isFresh = false;
  /** The token that `get` gave last was used before. */
  isReused = false;
  #cancel: Off = () => {};

  constructor(source: TokenSource, environment: Environment) {
    this.#source = source;
    this.#environment = environment;
  }

  /** Whether another call of the callback may give another token. */
  get isRenewable(): boolean {
    return typeof this.#source === "function";
  }

  /** A token to connect with: the one at hand while it is known to be valid, otherwise a fresh one. */
  async get(): Promise<string | null> {
    const left = this.#expires === null ? 0 : this.#expires - this.#environment.now();
    this.isReused = !this.#isFresh && left > USABLE_MS;
    const token = this.isReused || this.#isFresh ? this.#token : await this.fetch();
    this.#isFresh = false;
    return token;
  }

  /** A fresh token. */
  async fetch(): Promise<string | null> {
    const source = this.#source;
    if (typeof source === "string") return source;
    let cancel: Off = () => {};
    const late = new Promise<never>((_, reject) => {
      cancel = this.#environment.timer(FETCH_MS, () => reject(new Error(`token() took longer than ${FETCH_MS / 1000} s`)));
    });
    try {
      const token = await Promise.race([source(), late]);
      this.forget();
      this.#token = token;
      this.#isFresh = true;
      return token;
    } finally {
      cancel();
    }
  }

  /** The token at hand is not good any more. */
  forget(): void {
    this.#token = this.#expires = null;
    this.#isFresh = false;
  }

  /** The gateway has accepted the token, and says how long it is valid. Calls `renew` in time. */
  accepted(expiresIn: number | undefined, renew: () => void): void {
    this.#cancel();
    if (expiresIn === undefined) return;
    this.#expires = this.#environment.now() + expiresIn;
    if (!this.isRenewable) return;
    const lead = Math.min(LEAD_MS * (1 + this.#environment.random()), expiresIn / 2);
    this.#at(this.#expires - lead, renew);
  }

  /** Renewing has failed: again soon, as long as the connection lasts. */
  again(renew: () => void): void {
    this.#at(this.#environment.now() + AGAIN_MS * (1 + this.#environment.random()), renew);
  }

  /** The connection has ended. */
  stop(): void {
    this.#cancel();
  }

  /** A timer cannot wait longer than some weeks, and stands still while the machine sleeps: it is asked again. */
  #at(time: number, run: () => void): void {
    this.#cancel();
    const left = time - this.#environment.now();
    this.#cancel = this.#environment.timer(Math.min(left, 60_000), () => (left > 60_000 ? this.#at(time, run) : run()));
  }
}
