"""HAProxy, with the settings of its Deployment, in front of gateways that come and go: nothing is reloaded, and no connection
is cut. Pods are addresses of loopback; their name is answered by a DNS server of the test. Needs root, for a resolv.conf of
its own."""

import contextlib
import csv
import http.client
import io
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from manifests import ROOT, build, environment, one, pod

WITHIN_S = 30
# HAProxy's default for its `hold` settings is 30 s: after it, silence of the DNS server would remove every server.
DNS_OUTAGE_S = 35
KEY = "0123456789abcdef" * 4
# A network of this run, so that two runs on one machine do not meet.
NETWORK = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"


class NameServer(threading.Thread):
    """Answers every question for addresses with `addresses`, and nothing while `is_silent`."""

    def __init__(self):
        super().__init__(daemon=True)
        self.addresses, self.is_silent, self.asked = [], False, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((f"{NETWORK}.53", 53))

    def run(self):
        while True:
            try:
                query, client = self.socket.recvfrom(4096)
            except OSError:
                return
            self.asked += 1
            if self.is_silent:
                continue
            end = query.index(0, 12) + 5
            wants_ipv4 = struct.unpack("!H", query[end - 4 : end - 2])[0] == 1
            found = list(self.addresses) if wants_ipv4 else []
            head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(found), 0, 0)
            records = (b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(address) for address in found)
            self.socket.sendto(head + query[12:end] + b"".join(records), client)


class Stream:
    """A client with an event stream through HAProxy."""

    def __init__(self, token):
        # Longer than the silence between two pings of the gateway (30 s).
        self.connection = http.client.HTTPConnection(NETWORK + ".80", 8080, timeout=3 * WITHIN_S)
        self.connection.request("GET", "/sse?channels=system:news", headers={"Authorization": f"Bearer {token}"})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.status
        self.events, self.has_ended = [], False
        self.instance = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        eventually("an event stream is subscribed", lambda: any('"subscribed"' in event for event in self.events))
        self.instance = next(found[1] for event in self.events if (found := re.search(r'"instance":"([^"]+)"', event)))

    def read(self):
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self.answer.readline():
                self.events.append(line.decode())
        self.has_ended = True

    def was_told(self):
        return any('"reconnect"' in event for event in self.events)


def is_ready(address):
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def eventually(what, holds):
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WITHIN_S} s until {what}")
        time.sleep(0.05)


class Fleet(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.processes, self.users = {}, 0
        self.addCleanup(self.end)
        self.dns = NameServer()
        self.addCleanup(self.dns.socket.close)
        self.dns.start()
        items = build("base")
        self.settings = environment(items, pod(one(items, "Deployment", "tidegate"))["containers"][0])
        self.key = self.folder / "token.key"
        self.key.write_text(KEY)
        address = f"{NETWORK}.63"
        self.launch("redis", ["redis-server", "--bind", address, "--save", "", "--maxmemory-policy", "noeviction"], {})
        self.redis_url = f"redis://{address}:6379"
        for number in (1, 2, 3):
            self.start_gateway(number)
        variables = environment(items, pod(one(items, "Deployment", "tidegate-haproxy"))["containers"][0])
        variables["LB_GATEWAYS"] = variables["LB_GATEWAYS"].replace("$(NAMESPACE)", "tidegate")
        variables |= {"LB_BIND": f"{NETWORK}.80:8080", "LB_STATS": f"{NETWORK}.80:8404", "LB_SOCKET": f"{self.folder}/haproxy.sock"}
        # Fewer than in the Deployment, as a test may have fewer file descriptors.
        variables["LB_MAXCONN"] = "1000"
        (self.folder / "resolv.conf").write_text(f"nameserver {NETWORK}.53\n")
        haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        mount = f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf && exec {haproxy} -db -f {ROOT}/haproxy/haproxy.cfg"
        self.launch("haproxy", ["unshare", "--mount", "sh", "-c", mount], variables)
        eventually("HAProxy has found three gateways", lambda: self.up() == 3)

    def client(self):
        """A client of a user of its own, as a user may have ten connections."""
        self.users += 1
        return Stream(self.tidegate("token", "--user", f"user{self.users}", "--subscribe", "system:*").strip())

    def environment(self, number):
        keys = self.settings["TIDEGATE_AUTH_KEYS"].replace("/etc/tidegate/keys/token.key", str(self.key))
        own = {"TIDEGATE_AUTH_KEYS": keys, "TIDEGATE_REDIS_URL": self.redis_url, "TIDEGATE_INSTANCE": f"pod-{number}"}
        own |= {f"TIDEGATE_{name}LISTEN": f"{NETWORK}.{number}:{port}" for name, port in (("", 8080), ("ADMIN_", 9090), ("AGENT_", 9091))}
        return self.settings | own

    def tidegate(self, *args):
        command = [os.environ["GATEWAY_BINARY"], *args]
        return subprocess.run(command, env=self.environment(0), capture_output=True, text=True, check=True).stdout

    def start_gateway(self, number):
        self.launch(f"pod-{number}", [os.environ["GATEWAY_BINARY"], "serve"], self.environment(number))
        # HAProxy takes a server that it has just found for healthy until the first check.
        eventually(f"pod-{number} is ready", lambda: is_ready(f"{NETWORK}.{number}:9090"))
        self.dns.addresses.append(f"{NETWORK}.{number}")

    def launch(self, name, command, variables):
        with open(self.folder / f"{name}.log", "wb") as log:
            given = dict(env={"PATH": os.environ["PATH"]} | variables, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)
            self.processes[name] = subprocess.Popen(command, **given)

    def end(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def servers(self):
        """The state of each server of HAProxy that has an address."""
        try:
            with urllib.request.urlopen(f"http://{NETWORK}.80:8404/;csv", timeout=2) as answer:
                rows = csv.DictReader(io.StringIO(answer.read().decode().removeprefix("# ")))
                return {row["svname"]: row["status"] for row in rows if row["pxname"] == "gateways" and row["svname"].startswith("gateway")}
        except OSError:
            return {}

    def up(self):
        return sum(status == "UP" for status in self.servers().values())

    def test_the_fleet_changes_without_a_reload_and_without_a_cut(self):
        streams = [self.client() for _ in range(9)]
        self.assertEqual({stream.instance for stream in streams}, {"pod-1", "pod-2", "pod-3"})

        # Scale-out: a fourth gateway gets clients.
        self.start_gateway(4)
        eventually("HAProxy has found the fourth gateway", lambda: self.up() == 4)
        late = [self.client() for _ in range(3)]
        self.assertIn("pod-4", {stream.instance for stream in late})
        self.assertFalse([stream.instance for stream in streams if stream.has_ended])

        # Scale-in: a gateway drains. Its clients are told, and nobody else notices.
        leaving = [stream for stream in streams + late if stream.instance == "pod-1"]
        staying = [stream for stream in streams + late if stream.instance != "pod-1"]
        self.processes["pod-1"].send_signal(signal.SIGTERM)
        self.assertEqual(self.processes["pod-1"].wait(timeout=WITHIN_S), 0)
        eventually("its clients have ended", lambda: all(stream.has_ended for stream in leaving))
        self.assertTrue(leaving)
        self.assertTrue(all(stream.was_told() for stream in leaving), "a client was cut")
        self.dns.addresses.remove(f"{NETWORK}.1")
        eventually("HAProxy has removed the server", lambda: sum(status.startswith("MAINT") for status in self.servers().values()) == 21)
        self.assertEqual(self.up(), 3)

        # The DNS server is away. No server is removed, and new clients are served.
        self.dns.is_silent, asked = True, self.dns.asked
        time.sleep(DNS_OUTAGE_S)  # The passing of this time is what is tested.
        self.assertGreater(self.dns.asked, asked, "HAProxy has not noticed the outage")
        self.assertEqual(self.up(), 3)
        self.assertFalse([stream.instance for stream in staying if stream.has_ended])
        self.client()
        self.dns.is_silent = False

        # The address of the gateway that left comes back with another pod.
        self.start_gateway(1)
        eventually("HAProxy has found it", lambda: self.up() == 4)
        self.assertFalse([stream.instance for stream in staying if stream.has_ended])


if __name__ == "__main__":
    unittest.main()
