"""What a `listen` loop takes: each change once, in order, and only what was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_min.jsonrpc import ConnectionClosed
from mcp_min.subscription import Subscription

TOOLS = {"method": "notifications/tools/list_changed", "params": {}}
PROMPTS = {"method": "notifications/prompts/list_changed", "params": {}}


def updated(uri: str) -> dict[str, Any]:
    return {"method": "notifications/resources/updated", "params": {"uri": uri}}


async def taken(subscription: Subscription) -> list[dict[str, Any]]:
    return [change async for change in subscription.changes()]


async def nothing() -> None:
    return


@pytest.mark.parametrize(
    ("posted", "wanted"),
    [
        ([(1, TOOLS)], [TOOLS]),
        ([(2, TOOLS)], []),
        ([(None, TOOLS)], []),
        ([(1, PROMPTS)], []),
        ([(1, updated("a"))], [updated("a")]),
        ([(1, updated("b"))], []),
        ([(1, updated("a")), (1, TOOLS), (1, updated("a")), (1, TOOLS)], [updated("a"), TOOLS]),
    ],
)
async def test_what_is_kept(posted: list[tuple[Any, dict[str, Any]]], wanted: list[dict[str, Any]]) -> None:
    subscription = Subscription({TOOLS["method"]}, {"a"})
    subscription.id = 1
    for id, message in posted:
        subscription.add(id, message)
    subscription.ends_with(nothing())
    assert await taken(subscription) == wanted


async def test_changes_come_while_somebody_waits() -> None:
    subscription, end = Subscription({TOOLS["method"]}, set()), asyncio.Event()
    subscription.ends_with(end.wait())
    taking = asyncio.create_task(taken(subscription))
    await asyncio.sleep(0)
    subscription.add(None, TOOLS)
    await asyncio.sleep(0)
    end.set()
    assert await taking == [TOOLS]


async def test_it_ends_as_its_work_ends() -> None:
    async def lose() -> None:
        raise ConnectionClosed("gone")

    subscription = Subscription(set(), set())
    subscription.ends_with(lose())
    with pytest.raises(ConnectionClosed, match="gone"):
        await taken(subscription)


@pytest.mark.parametrize("begun", [True, False])
async def test_close_stops_the_work(begun: bool) -> None:
    subscription, stopped = Subscription(set(), set()), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    if begun:
        subscription.ends_with(work())
        await asyncio.sleep(0)
    await subscription.close()
    assert stopped.is_set() is begun
