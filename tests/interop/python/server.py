"""An MCP server by the official Python SDK: it takes one token, and writes down the headers of each request."""

import hashlib
import json
import os
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

TOKEN = os.environ["UPSTREAM_TOKEN"]
LOG = sys.argv[2]

server = MCPServer("items")


@server.tool()
def list_items() -> str:
    """List all items"""
    return "hammer, saw"


@server.tool()
def get_item(number: int) -> str:
    """Get one item"""
    return f"item {number}"


@server.tool()
def delete_item(number: int) -> str:
    """Delete one item"""
    return f"item {number} is gone"


@server.tool()
async def count_slowly(to: int, ctx: Context) -> str:
    """Count, and report each number"""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"at {number}")
    return f"counted to {to}"


class Door:
    """Takes requests with the one token; writes each down."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        presented = headers.get("authorization", "").removeprefix("Bearer ")
        with open(LOG, "a", encoding="utf-8") as log:
            entry = {name: headers.get(name) for name in ("mcp-protocol-version", "mcp-method", "mcp-name", "cookie")}
            entry |= {"http": scope["method"], "token": hashlib.sha256(presented.encode()).hexdigest()}
            log.write(json.dumps(entry) + "\n")
        if presented != TOKEN:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            return await send({"type": "http.response.body", "body": b""})
        return await self.app(scope, receive, send)


if __name__ == "__main__":
    app = Door(server.streamable_http_app())
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
