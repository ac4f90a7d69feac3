// PURE. How many frames may be sent now, so that the gateway does not drop any.

/** Other frames than messages need some of the rate. */
const SHARE = 0.9;

export class Rate {
  #perMs = 0;
  #burst = 0;
  #left = 0;
  #at = 0;

  /** A session is open, and allows so many frames per second. */
  reset(perSecond: number, now: number): void {
    this.#perMs = (perSecond * SHARE) / 1000;
    this.#burst = this.#left = Math.max(1, perSecond * SHARE);
    this.#at = now;
  }

  available(now: number): number {
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs);
    this.#at = now;
    return Math.floor(this.#left);
  }

  spend(frames: number): void {
    this.#left -= frames;
  }

  /** How long until a frame may be sent. */
  wait(now: number): number {
    return this.available(now) >= 1 ? 0 : Math.ceil((1 - this.#left) / this.#perMs);
  }
}
