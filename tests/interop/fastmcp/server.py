"""An MCP server of FastMCP, with the tools and the token check of `items.py`."""

import asyncio
import sys

import uvicorn
from fastmcp import Context, FastMCP
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult, SamplingMessage, TextContent

from items import Door, Word

server = FastMCP("items")


@server.tool
def list_items() -> str:
    """List all items"""
    return "hammer, saw"


@server.tool
def get_item(number: int) -> str:
    """Get one item"""
    return f"item {number}"


@server.tool
def update_item(number: int) -> str:
    """Update one item"""
    return f"item {number} is new"


@server.tool
def delete_item(number: int) -> str:
    """Delete one item"""
    return f"item {number} is gone"


@server.tool
async def count_slowly(to: int, ctx: Context) -> str:
    """Count, and report each number"""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"at {number}")
    return f"counted to {to}"


@server.tool
async def watch_items(ctx: Context) -> str:
    """Report without end"""
    number = 0
    while True:
        number += 1
        await ctx.report_progress(number)
        await asyncio.sleep(0.1)


@server.tool
async def ask_model(ctx: Context) -> str:
    """Ask the client's model (2025-11-25)"""
    question = SamplingMessage(role="user", content=TextContent(type="text", text="which one?"))
    answer = await ctx.session.create_message(messages=[question], max_tokens=9, related_request_id=ctx.request_id)
    return f"the model says {answer.content.text}"


@server.tool
async def ask_user(ctx: Context) -> str | InputRequiredResult:
    """Ask the user: by a request to the client (2025-11-25), or by a result that requires input (2026-07-28)"""
    if ctx.request_context.protocol_version == "2025-11-25":
        return f"the user says {(await ctx.elicit('say a word', Word)).data.word}"
    if ctx.input_responses and ctx.request_state == "asked":
        return f"the user says {ctx.input_responses['word'].content['word']}"
    question = ElicitRequestFormParams(message="say a word", requested_schema=Word.model_json_schema())
    return InputRequiredResult(input_requests={"word": ElicitRequest(params=question)}, request_state="asked")


if __name__ == "__main__":
    app = Door(server.http_app())
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
