"""The baseline: the same hub, written the usual way.

`websockets` on both sides, `json` both ways, and each client's events encoded for it:
what a team writes in an afternoon, and what most gateways of this kind are.
"""

import asyncio
import json
import logging
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from bench.load import UNDER_TEST, pin


async def main(upstream_url: str, port: Any, ready: Any, stop: Any) -> None:
    clients: dict[ServerConnection, set[str]] = {}
    wanted: asyncio.Queue[list[str]] = asyncio.Queue()

    async def session(client: ServerConnection) -> None:
        clients[client] = set()
        try:
            await client.send(json.dumps([{"ev": "status", "status": "connected", "message": ""}]))
            async for text in client:
                action = json.loads(text)
                if action["action"] == "auth":
                    reply = [{"ev": "status", "status": "auth_success", "message": ""}]
                else:
                    topics = action["params"].split(",")
                    clients[client].update(topics)
                    await wanted.put(topics)
                    reply = [
                        {"ev": "status", "status": "success", "message": f"subscribed to: {topic}"}
                        for topic in topics
                    ]
                await client.send(json.dumps(reply))
        finally:
            del clients[client]

    async def subscribe(upstream: Any) -> None:
        while True:
            topics = await wanted.get()
            await upstream.send(json.dumps({"action": "subscribe", "params": ",".join(topics)}))

    async def fan_out(upstream: Any) -> None:
        async for text in upstream:
            events = [event for event in json.loads(text) if event["ev"] != "status"]
            for client, topics in list(clients.items()):
                own = [event for event in events if f"{event['ev']}.{event['sym']}" in topics]
                if own:
                    await client.send(json.dumps(own))

    async with connect(upstream_url, max_size=None, compression=None) as upstream:
        await upstream.recv()
        await upstream.send(json.dumps({"action": "auth", "params": "key"}))
        await upstream.recv()
        async with (
            serve(session, "127.0.0.1", 0, max_size=None, compression=None) as server,
            asyncio.TaskGroup() as tasks,
        ):
            port.value = next(iter(server.sockets)).getsockname()[1]
            ready.release()
            running = [tasks.create_task(subscribe(upstream)), tasks.create_task(fan_out(upstream))]
            while not stop.is_set():
                await asyncio.sleep(0.05)
            for task in running:
                task.cancel()


def run(upstream_url: str, port: Any, ready: Any, stop: Any) -> None:
    logging.disable()
    pin(UNDER_TEST)
    uvloop.run(main(upstream_url, port, ready, stop))
