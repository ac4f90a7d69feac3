"""Clients of the observed cluster: WebSockets that publish and receive, event streams, crowds, and clients that do not read."""

import asyncio
import json
import socket
import threading
import urllib.parse
import urllib.request

import websockets


def redis(address, *command):
    """One command; the first line of the answer."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as it:
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        it.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        answer = it.makefile("rb").readline().decode().strip()
    if answer.startswith("-"):
        raise OSError(answer)
    return answer


def publish(address, topic, message, function="tidegate_publish"):
    scope = "tidegate:{default/system}"
    return redis(address, "FCALL", function, 2, f"{scope}:stream", f"{scope}:meta", topic, message)


class Load:
    """Runs in a thread of its own until `end`."""

    def __init__(self, fleet):
        self.fleet, self.tasks, self.crowd, self.idle = fleet, [], [], []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def call(self, coroutine, wait_s=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(wait_s)

    def start(self):
        addresses = [self.fleet["entrance"]] * 12 + [gateway["clients"] for gateway in self.fleet["gateways"]] * 6
        for number, address in enumerate(addresses):
            self.tasks.append(asyncio.run_coroutine_threadsafe(self.client(address, f"user{number}"), self.loop))
        for number in range(6):
            self.tasks.append(asyncio.run_coroutine_threadsafe(self.stream(f"reader{number}"), self.loop))

    def end(self):
        for task in self.tasks:
            task.cancel()
        self.leave()

    def token(self, user, address=None):
        grants = urllib.parse.urlencode({"user": user, "subscribe": "system:*,collection:*", "publish": "collection:*"})
        request = urllib.request.Request(f"http://{address or self.fleet['entrance']}/dev/token?{grants}", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode().strip()

    async def open(self, address, user, channels):
        token = await asyncio.to_thread(self.token, user, self.fleet["gateways"][0]["clients"])
        given = dict(subprotocols=["tidegate.v1"], ping_interval=None, compression=None, max_size=None, open_timeout=10)
        it = await websockets.connect(f"ws://{address}/ws", **given)
        await it.send(json.dumps({"type": "hello", "payload": {"token": token, "channels": [{"channel": channel} for channel in channels]}}))
        return it

    async def client(self, address, user):
        """Publishes twice a second, receives what the others publish, and comes back for ever."""
        while True:
            try:
                it = await self.open(address, user, ["system:*", "collection:1:ops"])
                async with it:
                    reader = asyncio.create_task(self.read(it))
                    try:
                        while not reader.done():
                            await it.send(json.dumps({"type": "publish", "channel": "collection:1:ops", "event": "op", "payload": {"at": 1}}))
                            await asyncio.sleep(0.5)
                    finally:
                        reader.cancel()
            except (OSError, websockets.WebSocketException, asyncio.TimeoutError):
                pass
            await asyncio.sleep(0.5)

    async def read(self, it):
        async for _ in it:
            pass

    async def stream(self, user):
        while True:
            try:
                token = await asyncio.to_thread(self.token, user, self.fleet["gateways"][0]["clients"])
                host, port = self.fleet["entrance"].rsplit(":", 1)
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET /sse?channels=system:* HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                while await reader.read(65536):
                    pass
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(1)

    def gather(self, address, count):
        """A crowd of silent clients on one gateway, ten for each user. Some may be refused."""

        async def one(number):
            try:
                self.crowd.append(await self.open(address, f"crowd{number // 9}", ["system:quiet"]))
            except (OSError, websockets.WebSocketException, asyncio.TimeoutError):
                pass

        async def all_():
            for start in range(0, count, 50):
                await asyncio.gather(*(one(number) for number in range(start, min(count, start + 50))))

        self.call(all_(), wait_s=120)

    def stop_reading(self, address, count):
        """Clients that subscribe and read nothing more."""

        async def one(number):
            it = await self.open(address, f"idle{number}", ["system:flood"])
            await asyncio.sleep(1)
            it.transport.pause_reading()
            self.idle.append(it)

        async def all_():
            await asyncio.gather(*(one(number) for number in range(count)))

        self.call(all_())

    def leave(self):
        """The crowd and the idle clients cut their connections."""

        async def all_():
            for it in self.crowd + self.idle:
                it.transport.abort()

        self.call(all_())
        self.crowd, self.idle = [], []
