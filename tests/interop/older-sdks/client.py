"""The Python SDK 1.12.4 as a client with only a broker token, which requests the version that it is told to."""

import asyncio
import os
import sys

import mcp.types
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamablehttp_client

VERSION = sys.argv[1]
mcp.types.LATEST_PROTOCOL_VERSION = VERSION


def check(what, holds, found):
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {'' if holds else repr(found)}", flush=True)
    if not holds:
        sys.exit(1)


async def main():
    headers = {"authorization": f"Bearer {os.environ['BROKER_TOKEN']}"}
    async with streamablehttp_client(os.environ["GATEWAY"], headers=headers) as (read, write, _):
        async with ClientSession(read, write) as session:
            begun = await session.initialize()
            check(f"they agree on {VERSION}", begun.protocolVersion == VERSION, begun.protocolVersion)
            names = [tool.name for tool in (await session.list_tools()).tools]
            check("the list has what is allowed", "get_item" in names and "delete_item" not in names, names)
            called = await session.call_tool("get_item", {"number": 7})
            check("a call returns its result", called.content[0].text == "item 7", called)
            try:
                denied = await session.call_tool("delete_item", {"number": 7})
            except McpError as error:
                denied = error.error.code
            check("a denied call is refused", denied == -32602, denied)


asyncio.run(asyncio.wait_for(main(), 60))
