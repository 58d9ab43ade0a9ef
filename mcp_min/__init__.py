"""The Model Context Protocol in plain asyncio, on the standard library alone.

Read the files in this order; each adds one idea to those before it, and imports nothing below it.

    The message    jsonrpc  spec  dispatcher  peer
    The wire       stream  stdio  sse  headers  guards  streamable_http  sessions  http_server
                   http_client  http_transport
    The protocol   json_schema  uri_template  signature  content  request_state  context  listener
                   features  catalogue  server
    The other end  targets  connection  questions  subscription  cache  client
    The doors      serving  terminal  __main__

    from mcp_min import Server

    server = Server("calculator")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    server.run()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client as Client
    from .content import audio as audio
    from .content import embedded as embedded
    from .content import image as image
    from .content import resource_link as resource_link
    from .content import text as text
    from .context import Context as Context
    from .context import ToolError as ToolError
    from .extras.config import load_config as load_config
    from .extras.group import ClientGroup as ClientGroup
    from .jsonrpc import ConnectionClosed as ConnectionClosed
    from .jsonrpc import RpcError as RpcError
    from .server import Server as Server
    from .serving import serve as serve
    from .serving import serve_http as serve_http
    from .serving import serve_stdio as serve_stdio
    from .serving import serve_tcp as serve_tcp
    from .serving import serve_unix as serve_unix
    from .stdio import StdioServerParameters as StdioServerParameters
    from .targets import HttpServerParameters as HttpServerParameters

__version__ = "0.1.0"

# The public names of each module, which is imported when one of them is first used, so that a program
# on stdio never loads what HTTP needs.
_PUBLIC = {
    "client": "Client",
    "content": "audio embedded image resource_link text",
    "context": "Context ToolError",
    "extras.config": "load_config",
    "extras.group": "ClientGroup",
    "jsonrpc": "ConnectionClosed RpcError",
    "server": "Server",
    "serving": "serve serve_http serve_stdio serve_tcp serve_unix",
    "stdio": "StdioServerParameters",
    "targets": "HttpServerParameters",
}
_HOME = {name: home for home, names in _PUBLIC.items() for name in names.split()}
# What a copy may be without is imported by name only: `import *` wants all that is listed here.
__all__ = sorted(name for name, home in _HOME.items() if not home.startswith("extras."))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
