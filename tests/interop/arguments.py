"""The command lines that every driver shares, so that `run.py` can start any of them alike.

SERVER.py --transport stdio|http|sse                                 http and sse print the URL as their first line
CLIENT.py --transport stdio --era modern|legacy -- COMMAND [ARG …]
CLIENT.py --transport http|sse --era modern|legacy URL
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

TRANSPORTS = ("stdio", "http", "sse")
ERAS = ("modern", "legacy")


@dataclass(frozen=True)
class Target:
    """What a client connects to: a command for stdio, otherwise a single URL."""

    transport: str
    era: str
    cells: str
    words: list[str]

    @property
    def url(self) -> str:
        """The URL, for http and sse."""
        return self.words[0]


def server_transport() -> str:
    """Read a server's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=TRANSPORTS, default="stdio")
    return str(parser.parse_args().transport)


def client_target() -> Target:
    """Read a client's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=TRANSPORTS, default="stdio")
    parser.add_argument("--era", choices=ERAS, default="modern")
    parser.add_argument("--cells", choices=("fixture", "everything"), default="fixture")
    parser.add_argument("words", nargs="+", metavar="COMMAND or URL")
    options = parser.parse_args()
    return Target(options.transport, options.era, options.cells, options.words)
