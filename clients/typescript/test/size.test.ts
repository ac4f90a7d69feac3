// What a page loads: the size of the bundles, compressed.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const PACKAGE = new URL("../../", import.meta.url).pathname;
const { exports } = JSON.parse(readFileSync(`${PACKAGE}package.json`, "utf8"));
const KIB = 1_024;

async function bundled(contents: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: `${PACKAGE}build/src` },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    write: false,
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

/** The file of an entry of the package, as this test has it. */
const fileOf = (entry: string) => exports[entry].default.replace("./dist/", "./");
const entries = Object.keys(exports).filter((entry) => entry !== "./package.json");

test("the client alone is below 8 KiB", async (t) => {
  const bytes = await bundled(`export { connect } from "${fileOf(".")}";`);
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < 8 * KIB, `${bytes} bytes`);
});

test("all entries together are at most 16 KiB", async (t) => {
  const bytes = await bundled(entries.map((entry, at) => `export * as entry${at} from "${fileOf(entry)}";`).join("\n"));
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes <= 16 * KIB, `${bytes} bytes`);
});

test("the library depends on nothing", () => {
  const manifest = JSON.parse(readFileSync(`${PACKAGE}package.json`, "utf8"));
  assert.equal(manifest.dependencies, undefined);
});
