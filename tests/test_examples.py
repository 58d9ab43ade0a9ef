"""The examples do what they say, in both eras."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Client, RpcError, Server
from mcp_min.examples import agent, files, notes

ROOT = Path(__file__).parent.parent
DEADLINE = 20  # seconds that nothing here takes, unless it hangs
ERAS = pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25", "2024-11-05"])


@asynccontextmanager
async def listening(
    server: Server, uri: str, era: str = "2026-07-28", **options: Any
) -> AsyncIterator[tuple[Client, asyncio.Queue[Any]]]:
    """A client that listens, once it has been told so, and what it hears."""
    subscribed, heard = asyncio.Event(), asyncio.Queue[Any]()
    requests: list[Any] = []

    def see(direction: str, message: dict[str, Any]) -> None:
        if message.get("method") == "resources/subscribe":
            requests.append(message["id"])
        elif message.get("method", "").endswith("/acknowledged") or message.get("id") in requests:
            subscribed.set()

    async def listen(client: Client) -> None:
        async for change in client.listen(resources=[uri], resource_list=True):
            heard.put_nowait(change)

    async with Client(server, protocol_version=era, on_message=see, **options) as client:
        task = asyncio.create_task(listen(client))
        try:
            async with asyncio.timeout(DEADLINE):
                await subscribed.wait()
                yield client, heard
        finally:
            task.cancel()
            await asyncio.wait([task])


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "folder"
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "read me.md").write_bytes("# Hé\r\n".encode())
    (folder / "docs" / "a.md").write_text("# A")
    (folder / "docs" / "deep" / "b.txt").write_text("b")
    (folder / ".git" / "hidden.md").write_text("hidden")
    (folder / "image").write_bytes(b"\x89PNG\xff")
    (folder / "large").write_bytes(b"x" * (files.MAX_SIZE + 1))
    (folder / "inside").symlink_to("docs/a.md")
    (folder / "outside").symlink_to("../secret")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(folder / "fifo")
    monkeypatch.setattr(files, "root", folder.resolve())
    monkeypatch.setattr(files, "INTERVAL", 0.001)
    return folder


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pattern": "*"}, ["image", "large", "read me.md", "docs/a.md", "docs/deep/b.txt"]),
        ({"pattern": "*.md"}, ["read me.md", "docs/a.md"]),
        ({"pattern": "*.md", "limit": 1}, ["read me.md"]),
        ({"pattern": "a.md"}, ["docs/a.md"]),
        ({"pattern": "docs/*"}, ["docs/a.md", "docs/deep/b.txt"]),
        ({"pattern": "../*"}, []),
        ({"pattern": "*secret*"}, []),
        ({"pattern": "*" * 40 + "x"}, []),
    ],
)
async def test_searching(arguments: dict[str, Any], found: list[str], folder: Path) -> None:
    async with Client(files.server) as client:
        assert (await client.call_tool("search_files", arguments))["structuredContent"] == found


@ERAS
async def test_a_search_tells_how_far_it_is(era: str, folder: Path) -> None:
    told: list[Any] = []
    async with Client(files.server, protocol_version=era) as client:
        await client.call_tool("search_files", {"pattern": "*.md"}, on_progress=lambda *progress: told.append(progress))
    messages = ["1 found", "2 found", "2 found"] if era > "2024-11-05" else [None] * 3
    assert told == [(1, 2, messages[0]), (2, 3, messages[1]), (3, 3, messages[2])]


async def test_a_folder_that_cannot_be_read_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path) -> Iterator[Any]:
        if path.name == "docs":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    async with Client(files.server) as client:
        result = await client.call_tool("search_files", {"pattern": "*.md"})
    assert result["structuredContent"] == ["read me.md"]


@pytest.mark.parametrize(
    ("path", "text", "error"),
    [
        ("read me.md", "# Hé\r\n", ""),
        ("inside", "# A", ""),
        ("docs/../docs/a.md", "# A", ""),
        ("nothing", "", "nothing: No such file or directory"),
        ("docs", "", "docs: it is no file"),
        ("fifo", "", "fifo: it is no file"),
        ("loop", "", "loop: Too many levels of symbolic links"),
        ("image", "", "image: it is no text"),
        ("large", "", "large: it has more than 4194304 bytes"),
        ("outside", "", "outside: it is not in the folder"),
        ("up/secret", "", "up/secret: it is not in the folder"),
        ("../secret", "", "../secret: it is not in the folder"),
        ("/etc/hosts", "", "/etc/hosts: it is not in the folder"),
        ("a\0b", "", "a\0b: no path holds NUL"),
    ],
)
async def test_reading(path: str, text: str, error: str, folder: Path) -> None:
    """As a tool, and as a resource where the path can stand in a URI."""
    async with Client(files.server) as client:
        result = await client.call_tool("read_file", {"path": path})
        assert result["content"] == [{"type": "text", "text": error or text}]
        assert result.get("isError", False) == bool(error)
        uri = f"file:///{path.replace(' ', '%20')}"
        if path == "image":
            contents = {"uri": uri, "mimeType": "application/octet-stream", "blob": "iVBOR/8="}
            assert (await client.read_resource(uri))["contents"] == [contents]
        elif error or ".." in path:
            with pytest.raises(RpcError, match="Resource not found") as caught:
                await client.read_resource(uri)
            assert str(folder.parent) not in str(caught.value)
        else:
            contents = {"uri": uri, "mimeType": "text/plain", "text": text}
            assert (await client.read_resource(uri))["contents"] == [contents]


@ERAS
async def test_watching(era: str, folder: Path) -> None:
    """Changed, removed, made anew; nobody looks once nobody listens."""
    uri = "file:///docs/a.md"
    updated = {"method": "notifications/resources/updated", "params": {"uri": uri}}
    async with listening(files.server, uri, era) as (_, heard):
        (folder / "docs" / "a.md").write_text("# A, changed")
        assert await heard.get() == updated
        (folder / "docs" / "a.md").unlink()
        assert await heard.get() == updated
        (folder / "docs" / "a.md").write_text("# A, again")
        assert await heard.get() == updated
        watching = files.watching
        async with listening(files.server, "file:///../secret", era):
            assert files.watching is watching  # one look for all
            assert files.seen["file:///../secret"] is None
        assert heard.empty()
    assert watching is not None
    async with asyncio.timeout(DEADLINE):
        await watching
    assert files.seen == {}


def test_files_as_a_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.server, "run", lambda: None)
    monkeypatch.setattr(sys, "argv", ["files", str(folder / "docs")])
    files.main()
    assert files.root == (folder / "docs").resolve()
    monkeypatch.setattr(sys, "argv", ["files", "nothing"])
    with pytest.raises(SystemExit, match="nothing is no folder; usage: "):
        files.main()


def test_the_first_command_of_the_readme() -> None:
    command = "-m mcp_min call search_files pattern=*.toml -- python -m mcp_min.examples.files ."
    words = [sys.executable if word == "python" else word for word in command.split()]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ('[\n  "pyproject.toml"\n]\n', "", 0)


# --- notes ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    notes.notes.close()
    monkeypatch.setattr(notes, "notes", notes.open_notes(":memory:"))
    yield
    notes.notes.close()
    for uri in [uri for uri in notes.server.resources if uri != "note://all"]:
        notes.server.remove_resource(uri)


async def add(client: Client, title: str, text: str = "") -> Any:
    return (await client.call_tool("add_note", {"title": title, "text": text})).get("structuredContent")


@ERAS
async def test_notes_come_and_go(era: str) -> None:
    asked: list[Any] = []

    def agree(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params["message"])
        return {"action": "accept", "content": {"agree": True}}

    listed = {"method": "notifications/resources/list_changed", "params": {}}
    updated = {"method": "notifications/resources/updated", "params": {"uri": "note://1"}}
    async with listening(notes.server, "note://1", era, on_elicit=agree) as (client, heard):
        await client.call_tool("add_note", {"title": "milk", "text": "buy some"})
        assert await heard.get() == listed
        shown = [(resource["uri"], resource["name"]) for resource in await client.list_resources()]
        assert shown == [("note://all", "all_notes"), ("note://1", "milk")]
        await client.call_tool("add_note", {"title": "milk", "text": "buy more"})
        assert await heard.get() == updated
        assert (await client.read_resource("note://1"))["contents"][0]["text"] == "buy more"
        result = await client.call_tool("delete_note", {"id": 1})
        assert result["content"] == [{"type": "text", "text": "deleted"}]
        assert await heard.get() == listed
        assert heard.empty()
        assert [resource["uri"] for resource in await client.list_resources()] == ["note://all"]
    assert asked == ["Delete the note 'milk'?"]


@ERAS
@pytest.mark.parametrize(
    "answer", [{"action": "decline"}, {"action": "cancel"}, {"action": "accept", "content": {"agree": False}}]
)
async def test_a_note_is_kept_unless_its_user_agrees(era: str, answer: dict[str, Any]) -> None:
    async with Client(notes.server, protocol_version=era, on_elicit=lambda params: answer) as client:
        await add(client, "kept")
        result = await client.call_tool("delete_note", {"id": 1})
        assert result["content"] == [{"type": "text", "text": "kept"}]
        assert len(await client.list_resources()) == 2


@ERAS
async def test_who_cannot_be_asked_deletes_nothing(era: str) -> None:
    async with Client(notes.server, protocol_version=era) as client:
        await add(client, "kept")
        with pytest.raises(RpcError, match="capability elicitation"):
            await client.call_tool("delete_note", {"id": 1})
        assert len(await client.list_resources()) == 2


async def test_two_who_delete_the_same_note() -> None:
    def agree(params: dict[str, Any]) -> dict[str, Any]:
        notes.notes.execute("DELETE FROM notes")
        return {"action": "accept", "content": {"agree": True}}

    async with Client(notes.server, protocol_version="2025-11-25", on_elicit=agree) as client:
        await add(client, "milk")
        assert (await client.call_tool("delete_note", {"id": 1}))["content"][0]["text"] == "deleted"
        result = await client.call_tool("delete_note", {"id": 1})
        assert result["content"] == [{"type": "text", "text": "there is no note 1"}]
        assert result["isError"]


@pytest.mark.parametrize(("words", "found"), [("", [1, 2]), ("MILCH", [1]), ("über milch", [1]), ("milch tee", [])])
async def test_searching_notes(words: str, found: list[int]) -> None:
    async with Client(notes.server) as client:
        await add(client, "Milch", "Übers Wochenende")
        await add(client, "Tee")
        result = await client.call_tool("search_notes", {"words": words})
        assert [note["id"] for note in result["structuredContent"]] == found
        prompt = await client.get_prompt("summary", {"language": "German"})
        assert prompt["messages"][0]["content"]["text"] == (
            "Summarize these notes in German:\n\nMilch: Übers Wochenende\n\nTee: "
        )


async def test_ids_are_not_used_again() -> None:
    agree = {"action": "accept", "content": {"agree": True}}
    async with Client(notes.server, on_elicit=lambda params: agree) as client:
        assert await add(client, "a", "b") == {"id": 1, "title": "a", "text": "b"}
        await client.call_tool("delete_note", {"id": 1})
        assert (await add(client, "a"))["id"] == 2


def test_notes_as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "notes.db"
    notes.open_notes(str(database)).execute("INSERT INTO notes (title, text) VALUES ('old', 'kept')").connection.close()
    served: list[Any] = []
    monkeypatch.setattr(notes.server, "run", lambda: served.append((list(notes.server.resources), notes.all_notes())))
    for words in (["notes"], ["notes", str(database)]):
        notes.notes.close()
        monkeypatch.setattr(notes, "notes", notes.open_notes(":memory:"))
        monkeypatch.setattr(sys, "argv", words)
        notes.main()
    kept = {"id": 1, "title": "old", "text": "kept"}
    assert served == [(["note://all"], []), (["note://all", "note://1"], [kept])]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        notes.all_notes()


# --- agent ---------------------------------------------------------------------------------------


async def run_agent(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.chdir(ROOT)  # where its children find the package
    monkeypatch.setattr(sys, "argv", ["agent", *words])
    await agent.main()


@pytest.mark.parametrize(("yes", "end"), [(["--yes"], "deleted"), ([], "kept")])
async def test_the_agent(
    yes: list[str], end: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_agent(monkeypatch, str(folder), *yes)
    shown = capsys.readouterr()
    for line in (
        "files 2026-07-28: search_files, read_file",
        "notes 2026-07-28: add_note, search_notes, delete_note",
        "→ files: search_files(pattern='*.md', limit=5)",
        "  3 of 3: 2 found",
        "→ notes: add_note(title='read me.md', text='# Hé\\r')",
        "  notes: notifications/resources/list_changed",
        "→ notes: delete_note(id=1)",
        f"← {end}",
        "note://2  docs/a.md",
    ):
        assert line in shown.out.splitlines()
    assert ("? Delete the note 'read me.md'? yes" in shown.out) == bool(yes)
    assert ("note://1" in shown.out) == (not yes)
    assert shown.err == ("" if yes else "declined, since nobody can be asked here: Delete the note 'read me.md'?\n")


async def test_the_agent_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_agent(monkeypatch, str(tmp_path))
    assert "← []" in capsys.readouterr().out


async def test_the_agent_stops_at_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Client(notes.server) as client:
        with pytest.raises(SystemExit, match="1"):
            await agent.call(client, "delete_note", id=7)
    assert capsys.readouterr().out == "→ notes: delete_note(id=7)\n← there is no note 7\n"
