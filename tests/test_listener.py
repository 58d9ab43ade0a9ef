"""Listeners: a set of changes and no queue, told in order, from any thread, until the end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mcp_min import listener, spec
from mcp_min.jsonrpc import ConnectionClosed, RpcError
from mcp_min.listener import Listener

TOOLS = "notifications/tools/list_changed"
PROMPTS = "notifications/prompts/list_changed"
UPDATED = spec.RESOURCE_UPDATED


class Reader:
    """What reads the notifications, slowly if the gate is closed."""

    def __init__(self):
        self.told = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None

    async def send(self, message):
        if self.error:
            raise self.error
        self.told.append((message["method"], message.get("params")))
        await self.gate.wait()


def listening(subscription_id=None):
    reader = Reader()
    listens = Listener(reader.send, subscription_id)
    listens.methods.add(TOOLS)
    listens.watch("note://1")
    listens.watch("note://2")
    return reader, listens


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_changes_that_are_wanted_are_told_in_order():
    reader, listens = listening()
    running = asyncio.create_task(listens.run())
    for change in [(UPDATED, "note://2"), (TOOLS, None), (PROMPTS, None), (UPDATED, "note://3"), (UPDATED, "note://1")]:
        listens.post(change)
    await settle()
    assert reader.told == [(UPDATED, {"uri": "note://2"}), (TOOLS, None), (UPDATED, {"uri": "note://1"})]
    listens.post((TOOLS, None))
    await settle()
    assert reader.told[3:] == [(TOOLS, None)]
    listens.end()
    await running


@pytest.mark.parametrize("id", [7, "7", 0, ""])
async def test_a_subscription_puts_its_id_on_everything(id):
    reader, listens = listening(id)
    running = asyncio.create_task(listens.run())
    await listens.notify("notifications/subscriptions/acknowledged", {"notifications": {"toolsListChanged": True}})
    listens.post((TOOLS, None))
    listens.post((UPDATED, "note://1"))
    await settle()
    meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": id}}
    assert reader.told == [
        ("notifications/subscriptions/acknowledged", {"notifications": {"toolsListChanged": True}} | meta),
        (TOOLS, meta),
        (UPDATED, {"uri": "note://1"} | meta),
    ]
    listens.end()
    await running


async def test_a_thousand_changes_for_a_slow_reader_are_one():
    reader, listens = listening()
    reader.gate.clear()
    running = asyncio.create_task(listens.run())
    listens.post((TOOLS, None))
    await settle()
    for _ in range(1000):
        listens.post((UPDATED, "note://1"))
        listens.post((TOOLS, None))
        listens.post((UPDATED, "note://2"))
    await settle()
    assert reader.told == [(TOOLS, None)]
    reader.gate.set()
    await settle()
    assert reader.told[1:] == [(UPDATED, {"uri": "note://1"}), (TOOLS, None), (UPDATED, {"uri": "note://2"})]
    listens.end()
    await running


async def test_what_changes_while_it_is_being_told_is_told_again():
    reader, listens = listening()
    reader.gate.clear()
    running = asyncio.create_task(listens.run())
    listens.post((UPDATED, "note://1"))
    await settle()
    listens.post((UPDATED, "note://1"))
    reader.gate.set()
    await settle()
    assert reader.told == [(UPDATED, {"uri": "note://1"})] * 2
    listens.end()
    await running


async def test_a_filter_may_grow_and_shrink():
    reader, listens = listening()
    running = asyncio.create_task(listens.run())
    listens.methods.add(PROMPTS)
    listens.watch("note://3")
    listens.uris.discard("note://1")
    for change in [(PROMPTS, None), (UPDATED, "note://1"), (UPDATED, "note://3"), (UPDATED, None)]:
        listens.post(change)
    await settle()
    assert reader.told == [(PROMPTS, None), (UPDATED, {"uri": "note://3"})]
    listens.end()
    await running


async def test_any_thread_may_post():
    reader, listens = listening()
    running = asyncio.create_task(listens.run())
    threads = [threading.Thread(target=listens.post, args=[(UPDATED, f"note://{n}")]) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
        await asyncio.to_thread(thread.join)
    listens.end()
    await running
    assert reader.told == [(UPDATED, {"uri": "note://1"}), (UPDATED, {"uri": "note://2"})]


async def test_the_end_tells_what_is_pending():
    reader, listens = listening()
    running = asyncio.create_task(listens.run())
    await settle()
    listens.post((TOOLS, None))
    listens.post((UPDATED, "note://1"))
    listens.end()
    listens.post((UPDATED, "note://2"))  # too late
    await running
    assert reader.told == [(TOOLS, None), (UPDATED, {"uri": "note://1"})]


async def test_the_end_waits_for_a_slow_reader():
    reader, listens = listening()
    reader.gate.clear()
    running = asyncio.create_task(listens.run())
    listens.post((TOOLS, None))
    await settle()
    listens.post((UPDATED, "note://1"))
    await settle()
    listens.end()
    listens.post((UPDATED, "note://2"))  # too late
    await settle()
    assert not running.done()
    reader.gate.set()
    await running
    assert reader.told == [(TOOLS, None), (UPDATED, {"uri": "note://1"})]


async def test_the_end_may_come_before_the_beginning():
    reader, listens = listening()
    listens.post((TOOLS, None))
    await settle()
    listens.end()
    await listens.run()
    assert reader.told == [(TOOLS, None)]
    await listens.run()


@pytest.mark.parametrize("error", [ConnectionClosed("gone"), BrokenPipeError("gone")], ids=repr)
async def test_a_lost_connection_ends_it(error):
    reader, listens = listening()
    running = asyncio.create_task(listens.run())
    reader.error = error
    listens.post((TOOLS, None))
    await running
    assert reader.told == []


async def test_telling_by_hand_shows_that_the_connection_is_lost():
    reader, listens = listening()
    reader.error = ConnectionClosed("gone")
    with pytest.raises(ConnectionClosed):
        await listens.notify(TOOLS, {})


@pytest.mark.parametrize("uri", [None, 5, ["note://1"], {}, True])
async def test_a_uri_is_a_string(uri):
    _, listens = listening()
    with pytest.raises(RpcError, match="uri") as raised:
        listens.watch(uri)
    assert raised.value.code == -32602


async def test_a_listener_watches_so_many(monkeypatch):
    monkeypatch.setattr(listener, "MAX_URIS", 3)
    _, listens = listening()
    listens.watch("note://3")
    with pytest.raises(RpcError, match="at most 3"):
        listens.watch("note://4")
    assert listens.uris == {"note://1", "note://2", "note://3"}
