"""The web page in a real browser, from another origin than the server's; skipped where there is no browser."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import pytest

import mcp_min
from mcp_min import Context, Server, ToolError, serve_http
from mcp_min.http_server import HttpServer

PAGE = Path(mcp_min.__file__).parent / "examples" / "web_client.html"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --no-proxy-server"
FLAGS += " --disable-background-networking --disable-component-update --disable-sync --disable-extensions"
FLAGS += " --virtual-time-budget=10000 --dump-dom"

# These look at the page from outside, as a person would.
WHEN = """<script>
new MutationObserver((changes, observer) => {
  if (!document.querySelector("%s")) return;
  observer.disconnect();
  %s
}).observe(document.body, { subtree: true, childList: true });
</script>"""
TELL = (WHEN % ("output li", 'fetch("/shown");')).encode()
FILL_IN = """
  const inputs = document.querySelectorAll("#tool-add input");
  inputs[0].value = "40";
  inputs[1].value = "2";
  document.querySelector("#tool-add button").click();
"""
CLICK = (WHEN % ("#tool-add button", FILL_IN)).encode()

in_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")


def calculator(seen: list[dict[str, str]], shown: asyncio.Event | None = None) -> Server:
    server = Server("calculator", version="1.2.3", page_size=2)

    @server.tool
    async def add(a: int, b: Annotated[int, "the second <b>number</b>"], ctx: Context) -> int:
        seen.append(dict(ctx.call.headers))
        return a + b

    @server.tool
    async def count(ctx: Context, to: int = 3, label: str = "grüße") -> str:
        for number in range(1, to + 1):
            await ctx.progress(number, total=to, message=f"counting {label}")
            if shown is not None:
                async with asyncio.timeout(30):
                    await shown.wait()
        return f"<i>counted</i> to {to}"

    @server.tool(input_schema={"type": "object", "properties": {"where": {"type": "string", "x-mcp-header": "Region"}}})
    async def place(where: str, ctx: Context) -> str:
        return "there: " + ctx.call.headers["mcp-param-region"]

    @server.tool
    async def fail() -> str:
        raise ToolError("it cannot be done")

    return server


@contextlib.asynccontextmanager
async def page_server(script: bytes, shown: asyncio.Event | None) -> AsyncIterator[str]:
    """Another origin, which serves the page and a script behind it; `shown` is set when that asks for /shown."""

    async def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        if shown is not None and request.path == "/shown":
            shown.set()
        return 200, {"Content-Type": "text/html; charset=utf-8"}, PAGE.read_bytes() + script

    http = HttpServer(answer, lambda status, message: message.encode())
    await http.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{http.port}"
    finally:
        await http.close(1)


async def browse(url: str, profile: Path) -> str:
    """The page's DOM once it has nothing left to do."""
    assert BROWSER is not None
    child = await asyncio.create_subprocess_exec(
        BROWSER,
        *FLAGS.split(),
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return out.decode()


async def run_page(
    tmp_path: Path,
    server: Server,
    *,
    allowed: bool = True,
    script: bytes = b"",
    shown: asyncio.Event | None = None,
    **query: str,
) -> str:
    async with (
        page_server(script, shown) as origin,
        serve_http(server, port=0, allowed_origins=[origin] if allowed else []) as http,
    ):
        dom = await browse(f"{origin}/web_client.html?{urlencode({'url': http.url, **query})}", tmp_path / "profile")
    return dom.partition("<body>")[2].partition("<script>")[0]


@in_browser
async def test_a_tool_is_called_and_the_tools_are_listed(tmp_path):
    seen: list[dict[str, str]] = []
    body = await run_page(tmp_path, calculator(seen), call="add", arguments=json.dumps({"a": 19, "b": 23}))
    assert "calculator 1.2.3: 4 tools" in body  # two pages of them
    assert re.search(r'<div class="result">\s*<pre>42</pre>', body)
    assert re.findall(r'<details id="tool-(\w+)"', body) == ["add", "count", "place", "fail"]
    assert seen[0]["mcp-method"] == "tools/call"
    assert (seen[0]["mcp-name"], seen[0]["mcp-protocol-version"]) == ("add", "2026-07-28")
    # The form is made from the schema, and a server's words are never markup.
    assert body.count('type="number"') == 3
    assert "the second &lt;b&gt;number&lt;/b&gt;" in body


@in_browser
async def test_progress_is_shown_while_the_tool_runs(tmp_path):
    shown = asyncio.Event()  # without it the tool does not go on
    body = await run_page(tmp_path, calculator([], shown), script=TELL, shown=shown, call="count")
    steps = re.findall(r"<li>(.*?)</li>", body)
    assert steps == [f"{number} of 3 counting grüße" for number in (1, 2, 3)]
    assert "<i>counted</i> to 3" in html.unescape(body)
    assert "<i>" not in body
    assert "<progress" not in body  # it is over


@in_browser
async def test_the_form_calls_the_tool(tmp_path):
    body = await run_page(tmp_path, calculator([]), script=CLICK)
    assert re.search(r'<div class="result">\s*<pre>42</pre>', body)


@in_browser
@pytest.mark.parametrize(
    ("value", "header"), [("eu", "eu"), ("é", "=?base64?w6k=?="), (" a", "=?base64?IGE=?="), ("=?base64?eA==?=", None)]
)
async def test_arguments_are_repeated_in_headers(tmp_path, value, header):
    # The server refuses a call whose headers do not say what its body says.
    body = await run_page(tmp_path, calculator([]), call="place", arguments=json.dumps({"where": value}))
    assert f"<pre>there: {header or '=?base64?'}" in body


@in_browser
async def test_a_failure_says_why(tmp_path):
    body = await run_page(tmp_path, calculator([]), call="fail")
    assert re.search(r'<div class="result error">\s*<pre>it cannot be done</pre>', body)


@in_browser
async def test_an_origin_that_is_not_allowed_learns_how_to_be(tmp_path):
    body = await run_page(tmp_path, calculator([]), allowed=False, call="add", arguments='{"a": 1, "b": 2}')
    assert "--allowed-origin http://127.0.0.1:" in body
    assert "<details" not in body


def test_the_page_loads_nothing():
    text = PAGE.read_text("utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|@import|\burl\(|innerHTML|\bimport\b", text)
    assert "default-src 'none'" in text
