"""For the Python clients: the user, the operator and the phases of a trial, and the callback of an authorization."""

import asyncio
import os
import urllib.parse
import urllib.request

MCP_URL, CONTROL = os.environ["MCP_URL"], os.environ["CONTROL"]
LIFETIME = int(os.environ["LIFETIME"])


def _post(path, text):
    request = urllib.request.Request(CONTROL + path, data=text.encode())
    return urllib.request.urlopen(request, timeout=60).read().decode()


async def phase(name):
    await asyncio.to_thread(_post, "/phase", name)


async def restart():
    await asyncio.to_thread(_post, "/restart", "")


async def revoke():
    await asyncio.to_thread(_post, "/revoke", "")


async def browse(url):
    """Lets the user allow; returns the parameters that reach the redirect URI."""
    ended = await asyncio.to_thread(_post, "/browser", url)
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(ended).query))


async def until_expired():
    await asyncio.sleep(LIFETIME + 1)


async def whole(call):
    """Runs all phases. `call()` connects, and returns the text of a call."""
    await phase("sign-in")
    assert await call() == "item 7"
    await phase("expired")
    await until_expired()
    assert await call() == "item 7"
    await phase("restarted")
    await restart()
    assert await call() == "item 7"
    await phase("revoked")
    await revoke()
    assert await call() == "item 7"

