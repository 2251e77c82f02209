"""Google's service in Python. Accepts one token and echoes it where a careless server might."""

import os
import sys
from concurrent import futures

import grpc
from mcp_grpc_transport_proto import mcp_messages_pb2 as messages
from mcp_grpc_transport_proto import mcp_pb2_grpc

TOKEN = os.environ["UPSTREAM_TOKEN"]
LOG = sys.argv[2]


class Items(mcp_pb2_grpc.McpServicer):
    def door(self, context, what):
        presented = [value for name, value in context.invocation_metadata() if name == "authorization"]
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{what} {'own' if presented == [f'Bearer {TOKEN}'] else 'other'}\n")
        if presented != [f"Bearer {TOKEN}"]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a token of ours")
        context.send_initial_metadata((("x-echo", presented[0]), ("x-echo-bin", presented[0].encode())))

    def ListTools(self, request, context):
        self.door(context, "ListTools")
        names = ["list_items", "get_item", "create_item", "delete_item"]
        tools = [messages.Tool(name=name, description=f"does {name}") for name in names]
        return messages.ListToolsResponse(tools=tools, cache_scope=messages.CACHE_SCOPE_PUBLIC)

    def CallTool(self, request, context):
        self.door(context, f"CallTool {request.request.name}")
        text = f"{request.request.name} {dict(request.request.arguments)} with {TOKEN}"
        content = messages.CallToolResponse.Content(text=messages.TextContent(text=text))
        context.set_trailing_metadata((("x-echo", TOKEN), ("x-echo-bin", TOKEN.encode())))
        return messages.CallToolResponse(content=[content])


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    mcp_pb2_grpc.add_McpServicer_to_server(Items(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
