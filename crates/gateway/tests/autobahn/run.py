#!/usr/bin/env python3
"""Runs Autobahn's cases against a WebSocket echo server and fails unless every one passes.

    pip install kosoku==0.1.0
    run.py 127.0.0.1:PORT [CASE ...]

A CASE is an id or a glob such as `6.4.*`; without any, sections 1 to 7 and 10 run. Sections 9 and 12 are left
out: 9 measures speed and sends 65,536 fragments in one message, above the codec's limit; 12 and 13 need
permessage-deflate.

kosoku counts NON-STRICT as a pass. Here it is a failure: it is what a server gets that notices text which is not
UTF-8 only at the end of a message (6.4.*).
"""

import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# What each half of a case may come to. INFORMATIONAL cases ask for something that the RFC leaves open.
ACCEPTED = {"OK", "INFORMATIONAL"}
# A case may wait for seconds by itself, so a few run at a time; more would make the waits inexact on a small machine.
CONCURRENCY = 4


async def main(address: str, cases: list[str]) -> int:
    try:
        results = await run_fuzzingclient(f"ws://{address}", cases, concurrency=CONCURRENCY)
    except FailureError as failure:
        results = failure.results
    failed = 0
    for case in results:
        verdicts = (case.behavior.value, case.behavior_close.value)
        if not ACCEPTED.issuperset(verdicts):
            failed += 1
            print(f"{case.case_id}: {' / '.join(verdicts)}: {case.result} {case.result_close}")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    verdict = asyncio.run(main(sys.argv[1], sys.argv[2:] or CASES))
    sys.stdout.flush()
    # Without the interpreter's farewell: a thread of the suite's own has been seen to abort it, after every verdict.
    os._exit(verdict)
