"""An MCP server of FastMCP that takes only access tokens of an authorization server, for itself, with a scope:
`upstream.py PORT LOG ISSUER SCOPE OFFERED...`. It asks for all scopes that are offered, as servers do."""

import hashlib
import json
import sys

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier
from pydantic import AnyHttpUrl

from door import read, said

PORT, LOG, ISSUER, SCOPE, *OFFERED = sys.argv[1:]
ORIGIN = f"http://127.0.0.1:{PORT}"

verifier = JWTVerifier(jwks_uri=f"{ISSUER}jwks", issuer=ISSUER, audience=f"{ORIGIN}/mcp", required_scopes=[SCOPE])
server = FastMCP("items", auth=RemoteAuthProvider(
    verifier, [AnyHttpUrl(ISSUER)], ORIGIN, scopes_supported=OFFERED, challenge_scopes=OFFERED,
))


@server.tool
def list_items() -> str:
    """List all items"""
    return "hammer, saw"


@server.tool
def get_item(number: int) -> str:
    """Get one item"""
    return f"item {number}"


@server.tool
def update_item(number: int) -> str:
    """Update one item"""
    return f"item {number} is new"


@server.tool
def delete_item(number: int) -> str:
    """Delete one item"""
    return f"item {number} is gone"


class Logged:
    """Logs each request: its token as a digest, what it calls, and the status of the response."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        presented = headers.get("authorization", "").removeprefix("Bearer ")
        body, receive = await read(receive)

        async def logged(message):
            if message["type"] == "http.response.start":
                entry = {"path": scope["path"], "http": scope["method"], "status": message["status"]}
                entry["token"] = hashlib.sha256(presented.encode()).hexdigest() if presented else None
                with open(LOG, "a", encoding="utf-8") as log:
                    log.write(json.dumps(entry | said(body)) + "\n")
            await send(message)

        await self.app(scope, receive, logged)


if __name__ == "__main__":
    uvicorn.run(Logged(server.http_app()), host="127.0.0.1", port=int(PORT), log_level="warning")
