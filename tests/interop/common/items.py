"""An MCP server of the official Python SDK that accepts one token and logs each request."""

import asyncio
import hashlib
import json
import os
import sys
from typing import Annotated

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel

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
def update_item(number: int) -> str:
    """Update one item"""
    return f"item {number} is new"


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


@server.tool()
async def watch_items(ctx: Context) -> str:
    """Report without end"""
    number = 0
    while True:
        number += 1
        await ctx.report_progress(number, None, f"at {number}")
        await asyncio.sleep(0.1)


@server.tool()
async def ask_model(ctx: Context) -> str:
    """Ask the client's model (2025-11-25)"""
    question = SamplingMessage(role="user", content=TextContent(type="text", text="which one?"))
    answer = await ctx.session.create_message(messages=[question], max_tokens=9, related_request_id=ctx.request_id)
    return f"the model says {answer.content.text}"


class Word(BaseModel):
    word: str


def word() -> Elicit[Word]:
    return Elicit("say a word", Word)


@server.tool()
async def ask_user(answer: Annotated[ElicitationResult[Word], Resolve(word)]) -> str:
    """Ask the user: by a request to the client (2025-11-25), or by a result that requires input (2026-07-28)"""
    return f"the user says {answer.data.word}" if answer.action == "accept" else "the user says nothing"


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
    """Returns method and name of a message."""
    try:
        message = json.loads(body)
    except ValueError:
        return {"method": None, "name": None, "state": None}
    params = message.get("params") or {}
    return {"method": message.get("method"), "name": params.get("name"), "state": params.get("requestState")}


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


if __name__ == "__main__":
    app = Door(server.streamable_http_app())
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
