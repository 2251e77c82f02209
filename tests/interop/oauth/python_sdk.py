"""The official Python SDK: `python_sdk.py MODE` for all phases, `python_sdk.py MODE share COUNT` as one of two
processes on a token store."""

import asyncio
import json
import os
import pathlib
import sys

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthMetadata, OAuthToken

import trial

MODE = sys.argv[1]
DOCUMENT = os.environ.get("DOCUMENT")


class Files:
    """A token store in files, which processes share. A file is replaced at once."""

    def __init__(self):
        self.folder = pathlib.Path(os.environ["STORE"])
        self.folder.mkdir(exist_ok=True)

    def _read(self, name, kind):
        path = self.folder / name
        return kind.model_validate_json(path.read_text()) if path.exists() else None

    def _write(self, name, value):
        temporary = self.folder / f"{name}.{os.getpid()}"
        temporary.write_text(value.model_dump_json())
        temporary.replace(self.folder / name)

    async def get_tokens(self):
        return self._read("tokens", OAuthToken)

    async def set_tokens(self, tokens):
        self._write("tokens", tokens)

    def expiry(self):
        """Tokens expire a lifetime after they were written."""
        path = self.folder / "tokens"
        return path.stat().st_mtime + trial.LIFETIME if path.exists() else None

    def metadata(self, found):
        if found:
            self._write("metadata", found)
        return found or self._read("metadata", OAuthMetadata)

    async def get_client_info(self):
        return self._read("client", OAuthClientInformationFull)

    async def set_client_info(self, client_info):
        self._write("client", client_info)


class Restoring(OAuthClientProvider):
    """Restores the expiry and the metadata, as FastMCP does the first: in a new process, the SDK considers each stored
    token valid, and signs in again after a 401."""

    async def _initialize(self):
        await super()._initialize()
        storage, context = self.context.storage, self.context
        context.token_expiry_time = storage.expiry()
        context.oauth_metadata = storage.metadata(context.oauth_metadata)


def provider(kind=OAuthClientProvider):
    ended = {}

    async def redirect(url):
        ended.update(await trial.browse(url))

    async def callback():
        return AuthorizationCodeResult(code=ended["code"], state=ended.get("state"), iss=ended.get("iss"))

    metadata = OAuthClientMetadata(
        client_name="Python SDK", redirect_uris=["http://127.0.0.1:3030/callback"], token_endpoint_auth_method="none"
    )
    return kind(
        trial.MCP_URL, metadata, Files(), redirect, callback, client_metadata_url=DOCUMENT
    )


def connection(auth):
    return httpx2.AsyncClient(auth=auth, timeout=60)


async def list_and_call(http):
    handler = trial.elicitation if trial.ELICITS else None
    transport = streamable_http_client(trial.MCP_URL, http_client=http)
    async with Client(transport, mode=MODE, elicitation_callback=handler) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert "get_item" in names and "delete_item" not in names, names
        return (await trial.signalled(lambda: client.call_tool("get_item", {"number": 7}))).content[0].text


async def all_phases():
    auth = provider()

    async def call():
        async with connection(auth) as http:
            return await list_and_call(http)

    await trial.whole(call)


async def share(count, idle=0):
    """Calls in one session each time that the token has expired, after a pause."""
    async with connection(provider(Restoring)) as http:
        async with Client(streamable_http_client(trial.MCP_URL, http_client=http), mode=MODE) as client:
            await asyncio.sleep(idle)
            for _ in range(count):
                await asyncio.sleep(trial.LIFETIME + 0.2)
                result = await client.call_tool("get_item", {"number": 7})
                assert result.content[0].text == "item 7", result


async def begin():
    auth = provider(Restoring)
    async with connection(auth) as http:
        assert await list_and_call(http) == "item 7"
    auth.context.storage.metadata(auth.context.oauth_metadata)


async def main():
    match sys.argv[2:]:
        case ["share", *numbers]:
            await share(*map(int, numbers))
        case ["begin"]:
            await begin()
        case _:
            await all_phases()


asyncio.run(main())
