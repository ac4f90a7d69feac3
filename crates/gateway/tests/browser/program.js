// One program that a test starts: its lines as they come, its end, and that it does end.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { DEADLINE_MS, until } from "./deadline.js";

const ROOT = fileURLToPath(new URL("../../../..", import.meta.url));
/** Where cargo builds, and where screenshots are kept. */
export const TARGET = process.env.BROWSER_TARGET ?? `${ROOT}target`;
export const TIDEGATE = `${TARGET}/release/tidegate`;

/** Whether a process is there, be it only as a zombie. */
export const isThere = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

export class Program {
  /** Everything it has written to standard output. */
  text = "";
  /** Until it has ended and its last word is read. */
  isRunning = true;

  /** Starts it from the repository's root or `cwd`, without what the person's own shell configures for another
   * gateway, and with these variables. */
  constructor(command, args, { cwd = ROOT, ...settings } = {}) {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("TIDEGATE_"));
    const env = { ...Object.fromEntries(own), ...settings };
    this.name = [command.split("/").at(-1), ...args].join(" ");
    // In our process group: Ctrl-C ends it with us.
    this.process = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "inherit"] });
    this.process.stdout.setEncoding("utf8").on("data", (text) => (this.text += text));
    const kill = () => this.process.kill("SIGTERM");
    process.once("exit", kill);
    this.ended = new Promise((resolve) => {
      this.process.once("error", (error) => resolve(error.message));
      this.process.once("close", (code, signal) => resolve(code ?? signal));
    }).finally(() => {
      this.isRunning = false;
      process.off("exit", kill);
    });
  }

  /** Waits until it has written what the pattern finds, and returns the match. */
  async wrote(pattern, deadline_ms = DEADLINE_MS) {
    const match = () => pattern.exec(this.text);
    const has = () => {
      if (!match() && !this.isRunning) throw new Error(`\`${this.name}\` ended before ${pattern}:\n${this.text}`);
      return Boolean(match());
    };
    await until(`\`${this.name}\` writes ${pattern}`, has, deadline_ms);
    return match();
  }

  /** Waits for its end, which must be a success, and returns what it wrote. */
  async succeeds() {
    const how = await this.ended;
    if (how !== 0) throw new Error(`\`${this.name}\` ended with ${how}:\n${this.text}`);
    return this.text.trim();
  }

  /** Asks it to end, as Ctrl-C or a service manager does, and makes sure. */
  async end(signal) {
    this.process.kill(signal);
    await until(`\`${this.name}\` ends after ${signal}`, () => !this.isRunning).catch((error) => {
      this.process.kill("SIGKILL");
      throw error;
    });
  }
}
