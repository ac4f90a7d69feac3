"""Runs every test_*.py in a process of its own, all at once: most of them wait for servers. Prints their output in order."""

import pathlib
import subprocess
import sys

folder = pathlib.Path(__file__).parent
suites = [
    (path.stem, subprocess.Popen([sys.executable, "-B", "-m", "unittest", "-v", path.stem], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for path in sorted(folder.glob("test_*.py"))
]
failed = []
for name, process in suites:
    output, _ = process.communicate()
    print(f"--- {name}\n{output}", flush=True)
    if process.returncode != 0:
        failed.append(name)
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
