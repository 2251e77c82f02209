"""An MCP server of the Python SDK 1.12.4, which agrees on the version of the third argument at the newest."""

import sys

import mcp.types
from mcp.server.fastmcp import FastMCP

from door import serve

# Proposed to a client that requests a version which this SDK does not know.
mcp.types.LATEST_PROTOCOL_VERSION = sys.argv[3]
server = FastMCP("items")


@server.tool()
def get_item(number: int) -> str:
    """Get one item"""
    return f"item {number}"


@server.tool()
def delete_item(number: int) -> str:
    """Delete one item"""
    return f"item {number} is gone"


if __name__ == "__main__":
    serve(server.streamable_http_app())
