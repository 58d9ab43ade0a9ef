"""Results that a server has called fresh, kept by the client that asked for them.

`subscription.py` tells a user what has changed; a cache is told as well, and forgets.

Spec: 2026-07-28 server/utilities/caching.
Wire: ← {"id":1,"result":{"tools":[…],"ttlMs":300000,"cacheScope":"public","resultType":"complete"}}

One cache serves one connection and one asker, so that a "private" result is never another's.

Deliberately absent: results of other methods, of errors and of input rounds, none of which may be kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from . import spec
from .jsonrpc import Params, Result

CACHED = spec.CACHEABLE - {"server/discover"}  # which is how a client asks whether the server is there
MAX_KEPT = 1000  # results; the oldest goes first


class Cache:
    """What has been answered, by method and parameters, for as long as it is fresh."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.changes = 0  # counts what has made results stale, so that none is kept that was asked for before
        self._now = now
        self._owner: object = None
        self._kept: dict[tuple[str, str], tuple[str, float]] = {}  # (the result's JSON, fresh until)

    def find(self, method: str, params: Params, owner: object) -> Result | None:
        """Return a fresh result, a new copy each time. owner: who asks; the results of another are dropped."""
        if owner != self._owner:
            self._owner = owner
            self.drop("")
        text, until = self._kept.get(_key(method, params), ("", 0.0))
        result: Result | None = json.loads(text) if self._now() < until else None
        return result

    def keep(self, method: str, params: Params, result: Result, changes: int) -> None:
        """Keep a result that was asked for when there had been so many changes."""
        ttl = result.get("ttlMs")
        # SHOULD treat an absent or negative one as 0, which is stale at once.
        if type(ttl) is int and ttl > 0 and changes == self.changes:
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[_key(method, params)] = json.dumps(result), self._now() + ttl / 1000

    def drop(self, family: str) -> None:
        """Forget "tools", "prompts" or "resources", or with "" all there is: something has changed."""
        self.changes += 1
        self._kept = {key: kept for key, kept in self._kept.items() if not key[0].startswith(family)}


def _key(method: str, params: Params) -> tuple[str, str]:
    return method, json.dumps(params, sort_keys=True)
