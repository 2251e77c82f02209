"""For the Python clients: the user, the operator and the phases of a trial, and the callback of an authorization."""

import asyncio
import json
import os
import re
import urllib.parse
import urllib.request

from mcp.types import ElicitResult

MCP_URL, CONTROL = os.environ["MCP_URL"], os.environ["CONTROL"]
LIFETIME = int(os.environ["LIFETIME"])
# Whether the client declares that it can open a link for the user (elicitation in URL mode).
ELICITS = bool(os.environ.get("ELICITS"))
IS_LATER = os.environ.get("STORY") == "later"
# Not empty if the user ends the account before the next call.
_ends = []


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


async def _connect(form, link):
    """Lets the user connect the account by the link of a signal."""
    await asyncio.to_thread(_post, "/signal", json.dumps({"form": form, "link": link}))


async def elicitation(context, params):
    """For clients that elicit: the callback of the Python SDK."""
    assert params.mode == "url" and params.message, params
    await _connect("elicitation", params.url)
    return ElicitResult(action="accept")


async def elicited(message, response_type, params, context):
    """The same as the handler of FastMCP."""
    return await elicitation(context, params)


def _errors(error):
    """Returns an exception, or those of a group."""
    if isinstance(error, BaseExceptionGroup):
        return [one for part in error.exceptions for one in _errors(part)]
    return [error] + (_errors(error.__cause__) if error.__cause__ else [])


async def _follow_link(error):
    found = [(getattr(getattr(one, "error", None), "code", "text"), f"{one} {getattr(getattr(one, 'error', None), 'data', None)}")
             for one in _errors(error)]
    links = [(code, link) for code, text in found for link in re.findall(r"http[^\s\"']+/connect/[^\s\"']+", text)]
    assert links, found
    await _connect(*links[0])


async def signalled(call):
    """Calls a tool; again, if the user had to connect an account first."""
    if not IS_LATER:
        return await call()
    if _ends:
        _ends.clear()
        await asyncio.to_thread(_post, "/disconnect", "")
    try:
        return await call()
    except Exception as error:
        await _follow_link(error)
    return await call()


async def _later(call):
    """The user continued without an account, and ends it later."""
    await phase("sign-in")
    try:
        text = await call()
    except Exception as error:
        await _follow_link(error)
        text = await call()
    assert text == "item 7", text
    _ends.append("before the next call")
    text = await call()
    assert text == "item 7", text


async def whole(call):
    """Runs all phases. `call()` connects, and returns the text of a call."""
    if IS_LATER:
        return await _later(call)
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

