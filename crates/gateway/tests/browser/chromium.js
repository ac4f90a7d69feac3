// Chromium, with nothing but loopback in its reach.
import { mkdir } from "node:fs/promises";

import { chromium } from "playwright-core";

import { TARGET } from "./program.js";

const SCREENSHOTS = `${TARGET}/browser`;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A name is never looked up, so whatever wants to leave this machine fails, and shows.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/** A fresh profile each time; the driver removes it and ends the process, also when we are told to stop. */
export const launch = () =>
  chromium.launch({ executablePath: process.env.BROWSER_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** Keeps what a page looks like now. */
export async function keep(page, name) {
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: true });
}
