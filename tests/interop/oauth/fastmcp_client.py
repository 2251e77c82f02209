"""The FastMCP client with its own `OAuth`, whose callback server the browser reaches: `fastmcp_client.py MODE`."""

import asyncio
import os
import sys
import warnings

from fastmcp import Client
from fastmcp.client.auth import OAuth
from key_value.aio.stores.memory import MemoryStore

import trial

MODE = sys.argv[1]


async def main():
    warnings.simplefilter("ignore")
    store = MemoryStore()
    document = os.environ.get("DOCUMENT")

    async def call():
        # A new provider each time, as in a new process, on the store of the others.
        auth = OAuth(client_name="FastMCP", token_storage=store, client_metadata_url=document)
        handler = trial.elicited if trial.ELICITS else None
        async with Client(trial.MCP_URL, auth=auth, mode=MODE, elicitation_handler=handler) as client:
            names = [tool.name for tool in await client.list_tools()]
            assert "get_item" in names and "delete_item" not in names, names
            return (await trial.signalled(lambda: client.call_tool("get_item", {"number": 7}))).content[0].text

    await trial.whole(call)


asyncio.run(main())
