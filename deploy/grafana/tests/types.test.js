// The dashboards, by Grafana's own types: what Grafana would drop without a word is an error of the compiler here.
//
//   node --test        needs the modules of package-lock.json, in GRAFANA_MODULES or beside this file

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const here = import.meta.dirname;
const folder = join(here, "../dashboards");
const modules = process.env.GRAFANA_MODULES ?? join(here, "node_modules");
const dashboards = Object.fromEntries(readdirSync(folder).map((name) => [name, JSON.parse(readFileSync(join(folder, name)))]));

const HEAD = `
import type * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import type * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import type * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";
import type * as stat from "@grafana/grafana-foundation-sdk/stat";
import type * as units from "@grafana/grafana-foundation-sdk/units";

// What JSON has of a type: strings for enums of strings, and no methods.
type Json<T> = T extends string ? \`\${T}\` : T extends (infer Item)[] ? Json<Item>[] : T extends object
  ? { [Key in keyof T as T[Key] extends (...args: never[]) => unknown ? never : Key]: Json<T[Key]> } : T;
type Unit = (typeof units)[keyof typeof units];
type Typed<Kind, Options, Custom> = Json<Omit<dashboard.Panel, "targets" | "options" | "fieldConfig" | "type">> & {
  type: Kind; targets: Json<prometheus.Dataquery>[]; options: Json<Options>;
  fieldConfig: { overrides: never[]; defaults: Json<Omit<dashboard.FieldConfig, "custom" | "unit">> & { unit: Unit; custom?: Custom } };
};
type Panel = Typed<"timeseries", timeseries.Options, Json<timeseries.FieldConfig>> | Typed<"stat", stat.Options, never>;
type Dashboard = Json<Omit<dashboard.Dashboard, "panels">> & { panels: Panel[] };
`;

/** The complaints of the compiler about each of these dashboards. */
function complaints(named) {
  const home = mkdtempSync(join(process.env.GRAFANA_HOME ?? "/tmp", "types-"));
  try {
    symlinkSync(modules, join(home, "node_modules"));
    for (const [name, shown] of Object.entries(named)) {
      writeFileSync(join(home, `${name}.ts`), `${HEAD}\n(${JSON.stringify(shown, null, 1)}) satisfies Dashboard;\n`);
    }
    const files = Object.keys(named).map((name) => `${name}.ts`);
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--moduleResolution", "nodenext"];
    let output = "";
    try {
      execFileSync(process.execPath, [join(modules, "typescript/bin/tsc"), ...options, ...files], { cwd: home, encoding: "utf8" });
    } catch (error) {
      output = error.stdout;
    }
    return Object.fromEntries(Object.keys(named).map((name) => [name, output.split("\n").filter((line) => line.startsWith(`${name}.ts`))]));
  } finally {
    rmSync(home, { recursive: true });
  }
}

// A change of the overview that Grafana would not report.
const PLANTED = {
  unit: (it) => (it.panels[0].fieldConfig.defaults.unit = "sekunden"),
  thresholds: (it) => (it.panels[0].fieldConfig.defaults.thresholds.mode = "absolut"),
  style: (it) => (it.panels[6].fieldConfig.defaults.custom.drawStyle = "lines"),
  custom: (it) => (it.panels[6].fieldConfig.defaults.custom.fillOpactiy = 5),
  options: (it) => (it.panels[6].options.legend.displayMode = "lists"),
  kind: (it) => (it.panels[6].type = "timeserie"),
  target: (it) => (it.panels[6].targets[0].expression = "up"),
  grid: (it) => (it.panels[6].gridPos.w = "8"),
  variable: (it) => (it.templating.list[1].hidden = true),
};

test("Grafana's types accept every dashboard, and refuse every planted fault", () => {
  const named = {};
  for (const [name, shown] of Object.entries(dashboards)) named[name.replace(".json", "")] = shown;
  for (const [name, plant] of Object.entries(PLANTED)) {
    const copy = structuredClone(dashboards["websocket_overview.json"]);
    plant(copy);
    named[`planted_${name}`] = copy;
  }
  const found = complaints(named);
  for (const [name, lines] of Object.entries(found)) {
    if (name.startsWith("planted_")) assert.notEqual(lines.length, 0, `${name} is not seen`);
    else assert.deepEqual(lines, [], name);
  }
});

test("the four dashboards have the names that links use, and no data source of somebody else", () => {
  const names = ["connection_details", "error_analysis", "message_flow", "websocket_overview"];
  assert.deepEqual(Object.keys(dashboards).sort(), names.map((name) => `${name}.json`));
  for (const name of names) {
    const shown = dashboards[`${name}.json`];
    assert.equal(shown.uid, name);
    assert.deepEqual(shown.templating.list.map((it) => it.name), ["datasource", "job", "instance"]);
    const sources = JSON.stringify(shown).match(/"datasource":\{.*?\}"?\}/g);
    assert.deepEqual([...new Set(sources)], ['"datasource":{"type":"prometheus","uid":"${datasource}"}']);
    for (const target of shown.panels.flatMap((panel) => panel.targets)) {
      assert.doesNotMatch(target.expr, /or\s+vector\(/);
      for (const [, window] of target.expr.matchAll(/(?:rate|increase)\([^[]*\[([^\]]+)\]/g)) assert.match(window, /^(\$__rate_interval|1h)$/);
      if (/(?<!:)\btidegate_/.test(target.expr)) assert.match(target.expr, /job=~"\$job", instance=~"\$instance"/);
      else if (/\bjob:tidegate/.test(target.expr)) assert.match(target.expr, /job=~"\$job"/);
    }
  }
});

test("panels do not overlap", () => {
  for (const [name, shown] of Object.entries(dashboards)) {
    const taken = new Set();
    for (const { title, gridPos: { x, y, w, h } } of shown.panels) {
      for (let row = y; row < y + h; row += 1) {
        for (let column = x; column < x + w; column += 1) {
          assert.ok(column < 24 && !taken.has(`${row}/${column}`), `${name}: ${title}`);
          taken.add(`${row}/${column}`);
        }
      }
    }
    assert.equal(new Set(shown.panels.map((panel) => panel.id)).size, shown.panels.length);
  }
});

test("the files are what build.py writes", () => {
  const code = `import sys; sys.path.insert(0, ${JSON.stringify(join(here, ".."))}); import build, json; print(json.dumps({it["uid"] + ".json": build.text(it) for it in build.DASHBOARDS}))`;
  const built = JSON.parse(execFileSync("python3", ["-B", "-c", code], { encoding: "utf8" }));
  for (const [name, text] of Object.entries(built)) assert.equal(readFileSync(join(folder, name), "utf8"), text, name);
});
