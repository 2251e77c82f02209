"""The checks for each Python client, on the bytes that the client and the server received."""

import asyncio
import hashlib
import json
import os
import re
import sys
import time
import urllib.parse
import urllib.request

import httpx2

GATEWAY, CONTROL, SEEN, AUDIT, UPSTREAM_TOKEN = (
    os.environ[name] for name in ("GATEWAY", "CONTROL", "SEEN", "AUDIT", "UPSTREAM_TOKEN")
)
everything = bytearray()
failures = 0


def check(what, holds, found=""):
    global failures
    failures += not holds
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {found if not holds else ''}", flush=True)


def lines(file):
    with open(file, encoding="utf-8") as text:
        return [json.loads(line) for line in text]


def tell(what, **query):
    """Calls the gateway's control server, to mint a token or to revoke."""
    url = f"{CONTROL}/{what}?{urllib.parse.urlencode(query)}"
    return urllib.request.urlopen(url, data=b"", timeout=10).read().decode()


class Tap(httpx2.AsyncBaseTransport):
    """Adds the token and keeps every received byte, with one entry per request."""

    def __init__(self, token):
        self.inner = httpx2.AsyncHTTPTransport()
        self.token = token
        self.answers = []

    async def handle_async_request(self, request):
        request.headers["authorization"] = f"Bearer {self.token}"
        asked = await request.aread()
        response = await self.inner.handle_async_request(request)
        answer = {"asked": asked, "status": response.status_code, "headers": response.headers, "body": bytearray(), "ended": None}
        self.answers.append(answer)
        for name, value in response.headers.raw:
            everything.extend(name + b": " + value + b"\n")
        stream = response.stream

        class Tapped(httpx2.AsyncByteStream):
            async def __aiter__(self):
                async for chunk in stream:
                    everything.extend(chunk)
                    answer["body"].extend(chunk)
                    yield chunk
                answer["ended"] = time.monotonic()

            async def aclose(self):
                await stream.aclose()

        response.stream = Tapped()
        return response

    async def aclose(self):
        await self.inner.aclose()

    def to(self, tool):
        """Returns the responses to the calls of a tool."""
        return [one for one in self.answers if b'"tools/call"' in one["asked"] and f'"{tool}"'.encode() in one["asked"]]


async def error_of(call):
    try:
        return None, await asyncio.wait_for(call, 10)
    except Exception as error:
        return error, None


async def trial(what, revision, connect):
    """Runs all checks.

    `connect(tap)` is a context manager for a client that has `names()` and
    `call(tool, arguments, progress=None)`, which returns the text.
    """
    print(f"{what}, {revision}", flush=True)
    who = what.replace(" ", "-")
    tap = Tap(tell("token", user=who, scope="items:read"))
    before = len(lines(SEEN))
    try:
        async with connect(tap) as client:
            await calls(client, tap, who, revision, before)
    except Exception as error:
        # Closing a session with a revoked token may fail; the checks before it have run.
        check("all checks ran", bool(tap.to("get_item")) and tap.to("get_item")[-1]["status"] == 401, repr(error))
    seen = lines(SEEN)[before:]
    versions = {entry["mcp-protocol-version"] for entry in seen} - {None}
    check(f"the server saw {revision} on the wire", versions == {revision}, versions)
    reached = [entry["name"] for entry in seen if entry["method"] == "tools/call"]
    let_through = {"get_item", "update_item", "count_slowly", "ask_user", "watch_items"}
    check("the calls that were let through reached it", let_through <= set(reached), reached)
    check("and no other", not {"delete_item", "unknown_item"} & set(reached), reached)
    check("once each", reached.count("update_item") == 1, reached)
    digest = hashlib.sha256(UPSTREAM_TOKEN.encode()).hexdigest()
    check("it saw its own token and no other", {entry["token"] for entry in seen} == {digest})
    if revision == "2025-11-25":
        sessions = {entry["mcp-session-id"] for entry in seen} - {None}
        kept = {one["headers"].get("mcp-session-id") for one in tap.answers} - {None}
        check("one session, whose id the client has sealed", len(sessions) == 1 and kept and not kept & sessions, (sessions, kept))


async def calls(client, tap, who, revision, before):
    names = await client.names()
    check("the list has what is allowed", {"get_item", "update_item", "watch_items"} <= set(names), names)
    check("the list hides what is denied", "delete_item" not in names, names)
    check("a call returns its result", await client.call("get_item", {"number": 7}) == "item 7")

    denied, _ = await error_of(client.call("delete_item", {"number": 7}))
    unknown, _ = await error_of(client.call("unknown_item", {"number": 7}))
    check("a denied call is refused", denied is not None and unknown is not None, (denied, unknown))
    said, same = (re.sub(rb'"id":\d+', b'"id":0', bytes(tap.to(tool)[0]["body"])) for tool in ("delete_item", "unknown_item"))
    check("with the same bytes as an unknown tool", b"-32602" in said and said == same, (said, same))

    step_up, _ = await error_of(client.call("update_item", {"number": 7}))
    answer = tap.to("update_item")[0]
    challenge = answer["headers"].get("www-authenticate", "")
    check("a call that needs a scope is refused", step_up is not None)
    named = 'error="insufficient_scope"' in challenge and 'scope="items:write"' in challenge
    check("with 403 and the scope", answer["status"] == 403 and named, (answer["status"], challenge))
    tap.token = tell("token", user=who, scope="items:read items:write")
    check("and passes with it", await client.call("update_item", {"number": 7}) == "item 7 is new")

    seen = []

    async def progress(at, *_):
        seen.append(at)

    counted = await client.call("count_slowly", {"to": 3}, progress)
    check("a streamed response completes, with its progress", counted == "counted to 3" and seen == [1, 2, 3], (counted, seen))
    check("as a stream", "text/event-stream" in tap.to("count_slowly")[0]["headers"]["content-type"])

    check("an elicitation reaches the user", await client.call("ask_user", {}) == "the user says tea")
    questions = b"".join(bytes(one["body"]) for one in tap.to("ask_user")).decode()
    if revision == "2025-11-25":
        check("by a request to the client", '"elicitation/create"' in questions and "input_required" not in questions, questions)
        check("and sampling the model", await client.call("ask_model", {}) == "the model says this one")
    else:
        check("by a result that requires input", '"input_required"' in questions and len(tap.to("ask_user")) == 2, questions)
        kept = re.search('"requestState":"([^"]+)"', questions)
        states = [entry["state"] for entry in lines(SEEN)[before:] if entry["name"] == "ask_user" and entry["state"]]
        check("whose state the client kept sealed", kept and states and kept[1] != states[0], (kept, states))

    revoked = []

    async def until_revoked(at, *_):
        if at == 2:
            # The time first: the stream may end before the response to this request arrives.
            revoked.append(time.monotonic())
            await asyncio.to_thread(tell, "revoke", user=who)

    watched, _ = await error_of(client.call("watch_items", {}, until_revoked))
    cut = tap.to("watch_items")[0]
    check("a stream of a revoked user ends with an error", revoked and watched is not None, watched)
    check("within two seconds", revoked and cut["ended"] and cut["ended"] - revoked[0] < 2, cut)
    after, _ = await error_of(client.call("get_item", {"number": 8}))
    check("and later calls are refused", after is not None and tap.to("get_item")[-1]["status"] == 401, after)


def done():
    print("in all")
    check("the clients received data", len(everything) > 5000)
    check("which does not contain the upstream token", UPSTREAM_TOKEN.encode() not in everything)
    named = {"filter.tool_denied", "filter.insufficient_scope", "authn.revoked"}
    # A result may be written to the log shortly after its response.
    for _ in range(100):
        reasons = {record.get("reason") for record in lines(AUDIT)}
        if named <= reasons:
            break
        time.sleep(0.02)
    check("the audit names each refusal", named <= reasons, reasons)
    print(f"{failures} failed")
    sys.exit(1 if failures else 0)
