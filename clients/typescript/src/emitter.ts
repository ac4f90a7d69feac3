// Listeners for named events.

/** Removes the listener. */
export type Off = () => void;
type Listener<A extends unknown[]> = (...args: A) => unknown;

export class Emitter<Events extends Record<string, unknown[]>> {
  #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Calls `listener` at each event of this name. */
  on<E extends keyof Events>(event: E, listener: Listener<Events[E]>): Off {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Calls every listener, also if one of them fails. Returns the failures. */
  emit<E extends keyof Events>(event: E, ...args: Events[E]): unknown[] {
    const failures: unknown[] = [];
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (listener as Listener<Events[E]>)(...args);
      } catch (failure) {
        failures.push(failure);
      }
    }
    return failures;
  }

  has(event: keyof Events): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0;
  }
}
