"""An MCP server of the Python SDK 1.12.4, which agrees on the newest version that it is told to speak, accepts one
token, and logs each request."""

import hashlib
import json
import os
import sys

import mcp.types
import uvicorn
from mcp.server.fastmcp import FastMCP

TOKEN = os.environ["UPSTREAM_TOKEN"]
PORT, LOG, VERSION = int(sys.argv[1]), sys.argv[2], sys.argv[3]
# Proposed to a client that requests a version which this SDK does not know.
mcp.types.LATEST_PROTOCOL_VERSION = VERSION

server = FastMCP("items")


@server.tool()
def get_item(number: int) -> str:
    """Get one item"""
    return f"item {number}"


@server.tool()
def delete_item(number: int) -> str:
    """Delete one item"""
    return f"item {number} is gone"


class Door:
    """Accepts requests with the token, and logs each."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        presented = headers.get("authorization", "").removeprefix("Bearer ")
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        message = json.loads(body) if body else {}
        params = message.get("params") or {}
        entry = {
            "http": scope["method"],
            "method": message.get("method"),
            "name": params.get("name"),
            "requested": params.get("protocolVersion"),
            "version": headers.get("mcp-protocol-version"),
            "session": headers.get("mcp-session-id"),
            "token": hashlib.sha256(presented.encode()).hexdigest(),
        }
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        if presented != TOKEN:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            return await send({"type": "http.response.body", "body": b""})

        async def again():
            return messages.pop(0) if messages else await receive()

        return await self.app(scope, again, send)


if __name__ == "__main__":
    uvicorn.run(Door(server.streamable_http_app()), host="127.0.0.1", port=PORT, log_level="warning")
