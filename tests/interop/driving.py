"""What every client driver's `main` does: connect, walk, print one JSON line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import everything
import walk
from arguments import Target, client_target

Connect = Callable[[Target, walk.Callbacks], AbstractAsyncContextManager[walk.Subject]]
CELLS = {"fixture": walk.CELLS, "everything": everything.CELLS}


async def main(connect: Connect) -> None:
    """Walk the server named on the command line."""
    target = client_target()
    async with connect(target, walk.Callbacks()) as subject:
        outcome = await walk.walk(subject, CELLS[target.cells])
    print(json.dumps(outcome), flush=True)
