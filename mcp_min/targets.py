"""What a client can be pointed at: a command, a URL, a server in the same process, a transport.

`stream.py`, `stdio.py` and `http_transport.py` each know one way to a server; this file chooses.

Deliberately absent: configuration files, which name targets; `extras` may read them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .stream import Transport, answer, memory_pair

Target = Any  # a command, StdioServerParameters, a URL, a Server, or a Transport

_serving: set[asyncio.Task[None]] = set()  # servers in memory; they end with their client's transport


async def open_transport(target: Target, **options: Any) -> Transport:
    """Return the transport that a target needs. Raises OSError when it cannot be opened, TypeError for no target.

    options: of HttpTransport, for a URL; older for HTTP+SSE.
    """
    if isinstance(target, str):
        from .http_transport import HttpTransport, SseTransport  # only those who use HTTP load it

        older = options.pop("older", False)
        return await SseTransport(target, **options).open() if older else HttpTransport(target, **options)
    if hasattr(target, "dispatch"):
        ours, theirs = memory_pair()
        serving = asyncio.create_task(answer(theirs, target.dispatch))
        _serving.add(serving)
        serving.add_done_callback(_serving.discard)
        return ours
    if hasattr(target, "read") and hasattr(target, "write"):
        given: Transport = target
        return given
    from . import stdio

    if isinstance(target, (list, tuple)):
        target = stdio.StdioServerParameters(target[0], list(target[1:]))
    if not isinstance(target, stdio.StdioServerParameters):
        kinds = "a command as a list, StdioServerParameters, a URL, a Server or a Transport"
        raise TypeError(f"a client connects to {kinds}, not to {target!r:.100}")
    return await stdio.connect_stdio(target)
