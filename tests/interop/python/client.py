"""The official Python SDK as a client with only broker tokens, in both revisions."""

import asyncio
import contextlib

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent

from trial import GATEWAY, done, trial


async def model(context, params):
    return CreateMessageResult(role="assistant", model="none", content=TextContent(type="text", text="this one"))


async def user(context, params):
    return ElicitResult(action="accept", content={"word": "tea"})


class Adapter:
    def __init__(self, client):
        self.client = client

    async def names(self):
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def call(self, tool, arguments, progress=None):
        return (await self.client.call_tool(tool, arguments, progress_callback=progress)).content[0].text


def speaking(mode):
    @contextlib.asynccontextmanager
    async def connect(tap):
        async with httpx2.AsyncClient(transport=tap, timeout=30) as http:
            transport = streamable_http_client(GATEWAY, http_client=http)
            async with Client(transport, mode=mode, sampling_callback=model, elicitation_callback=user) as client:
                yield Adapter(client)

    return connect


async def main():
    await trial("python legacy", "2025-11-25", speaking("legacy"))
    await trial("python auto", "2026-07-28", speaking("auto"))
    await trial("python pinned", "2026-07-28", speaking("2026-07-28"))
    done()


asyncio.run(main())
