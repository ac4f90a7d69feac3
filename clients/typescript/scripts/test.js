// Runs the tests that `tsc` has written to build/. Node before 22 has its WebSocket behind a flag.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";

const flags = Number(process.versions.node.split(".")[0]) < 22 ? ["--experimental-websocket"] : [];
const wanted = process.argv.slice(2);
const files = readdirSync("build/test")
  .filter((name) => name.endsWith(".test.js") && (wanted.length === 0 || wanted.some((part) => name.includes(part))))
  .map((name) => `build/test/${name}`);
if (files.length === 0) throw new Error("there are no tests in build/test");
const { status } = spawnSync(process.execPath, [...flags, "--test", "--test-reporter=spec", ...files], { stdio: "inherit" });
process.exit(status ?? 1);
