"""An MCP server of the official Python SDK that accepts one token and logs each request."""

import asyncio
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel

from door import Door, serve  # `fastmcp/server.py` imports `Door` from here.

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


if __name__ == "__main__":
    serve(server.streamable_http_app())
