"""The official Python SDK as a client that holds nothing but a broker token, in both revisions."""

import asyncio
import hashlib
import json
import os
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

URL, TOKEN, LOG = sys.argv[1:4]
UPSTREAM_TOKEN = os.environ["UPSTREAM_TOKEN"]
got = bytearray()
failures = 0


class Tap(httpx2.AsyncBaseTransport):
    """Keeps every byte and header that comes back."""

    def __init__(self):
        self.inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request):
        response = await self.inner.handle_async_request(request)
        for name, value in response.headers.raw:
            got.extend(name + b": " + value + b"\n")
        stream = response.stream

        class Tapped(httpx2.AsyncByteStream):
            async def __aiter__(self):
                async for chunk in stream:
                    got.extend(chunk)
                    yield chunk

            async def aclose(self):
                await stream.aclose()

        response.stream = Tapped()
        return response

    async def aclose(self):
        await self.inner.aclose()


def check(what, holds, found=""):
    global failures
    failures += not holds
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {found if not holds else ''}")


def log():
    with open(LOG, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def revision(mode, expected):
    print(f"{expected} (mode {mode!r})")
    before = len(log())
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(transport=Tap(), headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(URL, http_client=http), mode=mode) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            check("the list has what is allowed", {"list_items", "get_item", "count_slowly"} <= set(listed), listed)
            check("the list hides what is denied", "delete_item" not in listed, listed)
            called = await client.call_tool("get_item", {"number": 7})
            check("a call is answered", called.content[0].text == "item 7", called)
            try:
                denied = await client.call_tool("delete_item", {"number": 7})
                check("a denied call is refused", False, denied)
            except Exception as error:
                code = getattr(getattr(error, "error", error), "code", None)
                check("a denied call is refused with -32602", code == -32602, repr(error))
            seen = []

            async def progress(at, total, message):
                seen.append(at)

            counted = await client.call_tool("count_slowly", {"to": 3}, progress_callback=progress)
            check("a streamed answer comes to its end", counted.content[0].text == "counted to 3", counted)
            check("with its progress", seen == [1, 2, 3], seen)
    entries = [entry for entry in log()[before:] if entry["mcp-protocol-version"]]
    versions = {entry["mcp-protocol-version"] for entry in entries}
    check(f"the server saw {expected} on the wire", versions == {expected}, versions)
    if expected == "2026-07-28":
        named = {(entry["mcp-method"], entry["mcp-name"]) for entry in entries}
        check("with method and name beside the body", ("tools/call", "get_item") in named, named)
    called = [(entry["method"], entry["name"]) for entry in log()[before:]]
    check("the allowed call reached it", ("tools/call", "get_item") in called, called)
    check("the denied call never reached it", not any(name == "delete_item" for _, name in called), called)
    tokens = {entry["token"] for entry in log()[before:]}
    check("it saw its own token and no other", tokens == {hashlib.sha256(UPSTREAM_TOKEN.encode()).hexdigest()}, tokens)


async def main():
    await revision("legacy", "2025-11-25")
    await revision("2026-07-28", "2026-07-28")
    print("in all")
    async with httpx2.AsyncClient() as http:
        answer = await http.post(URL, headers={"authorization": "Bearer nonsense"}, json={})
        check("another token is refused", answer.status_code == 401, answer.status_code)
    check("the client got something", len(got) > 1000)
    check("and the upstream's token is nowhere in it", UPSTREAM_TOKEN.encode() not in got)
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)


asyncio.run(main())
