// The code that a page shows, as somebody who copies it gets it.
import { readFile } from "node:fs/promises";

/** Every block of the page that is fenced as `language`, in order. */
export async function blocks(page, language) {
  const text = await readFile(new URL(`../../../../${page}`, import.meta.url), "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code);
}
