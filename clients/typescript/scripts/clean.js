// Removes what an earlier build has written: a file whose source is gone would still be run or published.
import { rmSync } from "node:fs";

for (const directory of process.argv.slice(2)) rmSync(directory, { recursive: true, force: true });
