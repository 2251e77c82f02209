"""Accepts one token in front of an MCP server, logs each request, and serves the server by uvicorn."""

import hashlib
import json
import os
import sys

import uvicorn

TOKEN = os.environ["UPSTREAM_TOKEN"]
LOG = sys.argv[2]


async def read(receive):
    """Returns the body and a `receive` that repeats it: 2025-11-25 has no headers for method and tool."""
    messages = []
    while True:
        messages.append(await receive())
        if messages[-1]["type"] != "http.request" or not messages[-1].get("more_body"):
            break
    body = b"".join(message.get("body", b"") for message in messages)

    async def again():
        return messages.pop(0) if messages else await receive()

    return body, again


def said(body):
    """Returns method, name, request state and requested version of a message."""
    try:
        message = json.loads(body)
    except ValueError:
        return {"method": None, "name": None, "state": None, "requested": None}
    params = message.get("params") or {}
    return {
        "method": message.get("method"),
        "name": params.get("name"),
        "state": params.get("requestState"),
        "requested": params.get("protocolVersion"),
    }


class Door:
    """Accepts requests with the token, and logs each."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        presented = headers.get("authorization", "").removeprefix("Bearer ")
        body, receive = await read(receive)
        with open(LOG, "a", encoding="utf-8") as log:
            entry = {name: headers.get(name) for name in ("mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id")}
            entry |= {"http": scope["method"], "token": hashlib.sha256(presented.encode()).hexdigest()}
            entry |= said(body)
            log.write(json.dumps(entry) + "\n")
        if presented != TOKEN:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            return await send({"type": "http.response.body", "body": b""})
        return await self.app(scope, receive, send)


def serve(app):
    """Serves an ASGI application on the port of the first argument."""
    uvicorn.run(Door(app), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
