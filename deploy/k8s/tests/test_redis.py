"""The start scripts of Redis and its Sentinels, with real servers: three pods are three addresses of loopback, whose names
are in an /etc/hosts of their own. Needs root, for that file."""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from manifests import FOLDER, build, environment, one, pod

SCRIPTS = FOLDER / "base/redis"
PASSWORD = "0123456789abcdef"
WITHIN_S = 60


class Pod:
    """One pod: a Redis and a Sentinel, with a volume that outlives them."""

    def __init__(self, number, folder, variables):
        self.name, self.address = f"tidegate-redis-{number}", f"127.3.0.{number + 1}"
        self.folder = folder
        self.data = folder / self.name
        self.data.mkdir()
        self.processes = []
        own = {"POD_NAME": self.name, "POD_IP": self.address, "PASSWORD": PASSWORD, "DATA": str(self.data), "MAXMEMORY": "64mb"}
        self.variables = {"PATH": os.environ["PATH"]} | variables | own

    def start(self):
        log = open(self.folder / f"{self.name}.log", "ab")
        for script in ("sentinel.sh", "redis.sh"):
            command = f"mount --bind {self.folder}/hosts /etc/hosts && exec dash {SCRIPTS}/{script}"
            given = dict(env=self.variables, stdout=log, stderr=log, start_new_session=True)
            self.processes.append(subprocess.Popen(["unshare", "--mount", "sh", "-c", command], **given))
        log.close()

    def end(self, how):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
        for process in self.processes:
            process.wait(timeout=WITHIN_S)
        self.processes = []

    def redis(self, *command):
        call = ["redis-cli", "-h", self.address, "-a", PASSWORD, "--no-auth-warning", *command]
        return subprocess.run(call, capture_output=True, text=True, timeout=WITHIN_S).stdout.strip()

    def role(self):
        return self.redis("ROLE").split("\n")[0]

    def has_replicas(self, count):
        return f"connected_slaves:{count}" in self.redis("INFO", "replication")

    def is_linked(self):
        return "master_link_status:up" in self.redis("INFO", "replication")


    def knows_all(self):
        """Whether its Sentinel has found the other two, and both replicas. Before that, there is no failover."""
        lines = self.redis("-p", "26379", "SENTINEL", "MASTER", "tidegate").split("\n")
        known = dict(zip(lines[::2], lines[1::2]))
        return (known.get("num-other-sentinels"), known.get("num-slaves")) == ("2", "2")


def eventually(what, holds):
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WITHIN_S} s until {what}")
        time.sleep(0.1)


class Redis(unittest.TestCase):
    def setUp(self):
        items = build("base")
        container = pod(one(items, "StatefulSet", "tidegate-redis"))["containers"][0]
        variables = environment(items, container)
        variables["SERVICE"] = variables["SERVICE"].replace("$(NAMESPACE)", "tidegate")
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.pods = [Pod(number, folder, variables) for number in range(3)]
        lines = ["127.0.0.1 localhost", *(f"{it.address} {it.name}.{variables['SERVICE']}" for it in self.pods)]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        self.addCleanup(lambda: [it.end(signal.SIGKILL) for it in self.pods])

    def primary(self):
        found = [it for it in self.pods if it.role() == "master"]
        return found[0] if len(found) == 1 else None

    def settled(self):
        """One primary with two replicas that follow it, and three Sentinels that know all of them."""
        primary = self.primary()
        follow = primary and primary.has_replicas(2) and all(it.is_linked() for it in self.pods if it is not primary)
        return follow and all(it.knows_all() for it in self.pods)

    def test_there_is_one_primary_after_every_kind_of_start(self):
        for it in self.pods:
            it.start()
        eventually("pod 0 is the primary of two replicas", self.settled)
        self.assertIs(self.primary(), self.pods[0])
        self.assertEqual(self.pods[0].redis("SET", "note", "kept"), "OK")

        # A pod is lost. Another becomes the primary, and the lost one comes back as its replica.
        first = self.pods[0]
        first.end(signal.SIGKILL)
        eventually("another pod is the primary", lambda: self.primary() and self.primary() is not first)
        first.start()
        eventually("the lost pod follows", self.settled)
        second = self.primary()
        self.assertIsNot(second, first)
        self.assertEqual(first.redis("GET", "note"), "kept")

        # All pods restart at once. The Sentinels remember the primary; pod 0 does not take over.
        for it in self.pods:
            it.end(signal.SIGTERM)
        for it in self.pods:
            it.start()
        eventually("the fleet is back", self.settled)
        self.assertIs(self.primary(), second)
        self.assertEqual(first.redis("GET", "note"), "kept")

        # A pod comes back without its volume. The others tell it the primary.
        third = next(it for it in self.pods if it is not second)
        third.end(signal.SIGKILL)
        for file in sorted(third.data.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        third.start()
        eventually("the empty pod follows", self.settled)
        self.assertIs(self.primary(), second)
        self.assertEqual(third.redis("GET", "note"), "kept")


if __name__ == "__main__":
    unittest.main()
