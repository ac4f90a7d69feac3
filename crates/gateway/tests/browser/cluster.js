// The cluster as a person starts and breaks it: `cargo xtask cluster`, and the lines that it prints.
import { DEADLINE_MS, until } from "./deadline.js";
import { isThere, Program } from "./program.js";

/** With a build from nothing on two cores before it. */
const START_DEADLINE_MS = 15 * 60_000;

export class Cluster {
  static async start() {
    const cluster = new Cluster();
    cluster.xtask = new Program(process.env.CARGO ?? "cargo", ["xtask", "cluster"]);
    try {
      await cluster.xtask.wrote(/Ctrl-C ends all of it/, START_DEADLINE_MS);
      cluster.#read(cluster.xtask.text);
    } catch (error) {
      await cluster.end();
      throw error;
    }
    return cluster;
  }

  /** What a person reads and copies from the terminal. */
  #read(text) {
    const find = (pattern) => {
      const match = pattern.exec(text);
      if (!match) throw new Error(`\`cargo xtask cluster\` no longer prints ${pattern}:\n${text}`);
      return match;
    };
    this.url = find(/^ +page +(http:\S+)/m)[1];
    const redis = find(/^ +redis +(redis:\S+) +pid (\d+)/m);
    this.redis = redis[1];
    this.pids = { redis: Number(redis[2]) };
    for (const [, name, pid] of text.matchAll(/^ +(gateway\d) .* pid (\d+)/gm)) this.pids[name] = Number(pid);
    this.copied = [find(/^ +(\S*tidegate publish .*)$/m)[1], find(/^ +(redis-cli .*)$/m)[1]];
  }

  /** Sends a signal to one of its processes, and returns when that is gone and the terminal says how it ended. */
  async kill(name, signal) {
    process.kill(this.pids[name], signal);
    await until(`${name} is gone after ${signal}`, () => !isThere(this.pids[name]));
    const [, how] = await this.xtask.wrote(new RegExp(`^${name} ended \\((.*)\\)$`, "m"));
    return how;
  }

  /** Ctrl-C, after which nothing may be left. */
  async end() {
    await this.xtask.end("SIGINT");
    for (const [name, pid] of Object.entries(this.pids ?? {})) {
      await until(`${name} ends with its cluster`, () => !isThere(pid), DEADLINE_MS);
    }
  }
}
