"""The FastMCP client with only broker tokens, in both revisions."""

import asyncio
import contextlib
import os

import httpx2
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from trial import GATEWAY, done, trial


async def model(messages, params, context):
    return "this one"


async def user(message, response_type, params, context):
    return {"word": "tea"}


class Adapter:
    def __init__(self, client):
        self.client = client

    async def names(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call(self, tool, arguments, progress=None):
        return (await self.client.call_tool(tool, arguments, progress_handler=progress)).content[0].text


def speaking(mode):
    @contextlib.asynccontextmanager
    async def connect(tap):
        def http(headers=None, auth=None, **_):
            return httpx2.AsyncClient(transport=tap, headers=headers, auth=auth, timeout=30)

        transport = StreamableHttpTransport(GATEWAY, httpx_client_factory=http)
        async with Client(transport, mode=mode, sampling_handler=model, elicitation_handler=user) as client:
            yield Adapter(client)

    return connect


async def main():
    server = os.environ["SERVER"]
    await trial(f"fastmcp legacy before {server}", "2025-11-25", speaking("legacy"))
    await trial(f"fastmcp auto before {server}", "2026-07-28", speaking("auto"))
    done()


asyncio.run(main())
