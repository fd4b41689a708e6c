"""A small app in the place of `entrepot.app`, to see the server without the registry."""

import asyncio
import os
from types import SimpleNamespace

from entrepot.cli.serve import run
from entrepot.config import load


async def prepare(settings):
    return SimpleNamespace(start_lines=["ready to start"])


def serve_worker():
    return _app


async def _app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    match scope["path"]:
        case "/pid":
            await _answer(send, [str(os.getpid()).encode()])
        case "/slow":  # a download that takes as many half seconds as the query says
            await _answer(send, [b"x" * 1000] * int(scope["query_string"]), pause=0.5)
        case "/crash":
            os._exit(3)
        case _:
            await _answer(send, [])


async def _answer(send, parts, pause=0.0):
    size = sum(map(len, parts))
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts:
        await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


if __name__ == "__main__":
    run(load(), app="tests.cli.stub")
