"""The Python SDK 2 as a client with only a broker token, in front of a server that speaks an older version."""

import asyncio
import os
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client


def check(what, holds, found):
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {'' if holds else repr(found)}", flush=True)
    if not holds:
        sys.exit(1)


async def main():
    headers = {"authorization": f"Bearer {os.environ['BROKER_TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(os.environ["GATEWAY"], http_client=http), mode="legacy") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            check("the list has what is allowed", "get_item" in names and "delete_item" not in names, names)
            called = await client.call_tool("get_item", {"number": 7})
            check("a call returns its result", called.content[0].text == "item 7", called)
            try:
                denied = await client.call_tool("delete_item", {"number": 7})
            except Exception as error:
                denied = str(error)
            check("a denied call is refused", "unknown tool" in str(denied), denied)


asyncio.run(asyncio.wait_for(main(), 60))
