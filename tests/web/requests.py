"""Requests as a server hands them over, and answers as it gets them."""

import asyncio

from entrepot.web.requests import Request


def request_with(*headers, method="GET", client=("127.0.0.1", 9), query=b"", receive=None, **more):
    named = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers]
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": named,
        "client": client,
        "query_string": query,
        **more,
    }
    return Request(scope, receive or Script().receive, idle_seconds=0.05)


class Script:
    """A client that does what is written: a piece, or a pause for ever, or going away."""

    GONE = "gone"
    PAUSE = "pause"

    def __init__(self, *steps):
        self.steps = list(steps)
        self.taken = 0

    async def receive(self):
        if not self.steps:
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        self.taken += 1
        if step == self.PAUSE:
            await asyncio.Event().wait()
        if step == self.GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": step, "more_body": bool(self.steps)}


class Sent:
    """What was sent."""

    def __init__(self):
        self.messages = []

    async def send(self, message):
        self.messages.append(message)

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def headers(self):
        return dict(self.messages[0]["headers"])

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.messages[1:])
