// The real machine: clocks, and the events of a page.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { systemEnvironment, type Signal } from "../src/environment.js";

/** Replaces globals for one test. */
function withGlobals(values: Record<string, unknown>, run: () => void): void {
  const before = Object.keys(values).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  for (const [name, value] of Object.entries(values)) Object.defineProperty(globalThis, name, { value, configurable: true });
  try {
    run();
  } finally {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else Reflect.deleteProperty(globalThis, name);
    }
  }
}

test("the clock never goes back, and does not stand still while the machine sleeps", () => {
  let [date, tick] = [1_000, 1_000];
  const dates = mock.method(Date, "now", () => date);
  const ticks = mock.method(performance, "now", () => tick);
  try {
    const environment = systemEnvironment();
    const start = environment.now();
    [date, tick] = [2_000, 2_000];
    assert.equal(environment.now() - start, 1_000);
    [date, tick] = [500, 3_000];
    assert.equal(environment.now() - start, 2_000, "the date was set back");
    [date, tick] = [10_500, 3_000];
    assert.equal(environment.now() - start, 12_000, "the machine slept");
  } finally {
    dates.mock.restore();
    ticks.mock.restore();
  }
});

test("a page tells when it is shown, kept, or its network changes", () => {
  const page = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  const target = new EventTarget();
  const globals = {
    document: page,
    addEventListener: target.addEventListener.bind(target),
    removeEventListener: target.removeEventListener.bind(target),
  };
  withGlobals(globals, () => {
    const signals: Signal[] = [];
    const off = systemEnvironment().watch((signal) => signals.push(signal));
    const all = () => {
      for (const name of ["online", "offline"]) target.dispatchEvent(new Event(name));
      for (const persisted of [false, true]) {
        for (const name of ["pagehide", "pageshow"]) target.dispatchEvent(Object.assign(new Event(name), { persisted }));
      }
      page.dispatchEvent(new Event("visibilitychange"));
      page.visibilityState = "visible";
      page.dispatchEvent(new Event("visibilitychange"));
      page.dispatchEvent(new Event("resume"));
    };
    all();
    assert.deepEqual(signals, ["online", "offline", "suspend", "resume", "visible", "visible"]);
    off();
    all();
    assert.equal(signals.length, 6);
  });
});

test("a program without a page has no such events", () => {
  systemEnvironment().watch(() => assert.fail())();
});

test("ids differ, also where a page has no TLS", () => {
  const { id } = systemEnvironment();
  assert.notEqual(id(), id());
  withGlobals({ crypto: { getRandomValues: crypto.getRandomValues.bind(crypto) } }, () => {
    assert.match(id(), /^[0-9a-f]{32}$/);
    assert.notEqual(id(), id());
  });
});

test("a timer longer than a timer can be waits", async () => {
  const cancel = systemEnvironment().timer(2 ** 40, () => assert.fail("it fired at once"));
  await new Promise((resolve) => setTimeout(resolve, 5));
  cancel();
});
