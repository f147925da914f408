"""What the page's tests look through and at: pages of a browser, and servers."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fixture_server import World
    from playwright.sync_api import Browser, BrowserContext, Page

#: Sizes of windows: a laptop, and a telephone held upright.
WIDE, NARROW = (1440, 900), (390, 844)
#: ms that anything may take on a machine that is busy.
PATIENCE = 90_000


@dataclass
class Browsing:
    """Pages of a browser, and everything that went wrong in them."""

    browser: Browser
    #: Texts that a test provokes and so forgives, such as a refused request.
    forgiven: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    contexts: list[BrowserContext] = field(default_factory=list)

    def page(self, size: tuple[int, int] = WIDE, theme: str = "light", **more: Any) -> Page:
        """Open a page in a context of its own, as another person's browser would."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if theme == "dark" else "light",
            locale="en-GB",
            timezone_id="UTC",
            **more,
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type in ("error", "warning") and self._no(said.text))
        page.on("pageerror", lambda error: self._no(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        return page

    def _no(self, text: str) -> None:
        if not any(each in text for each in self.forgiven):
            self.complaints.append(text)


@dataclass
class FixtureSite:
    """The fixture server: where it is, and its world."""

    url: str
    world: World

    def login(self, page: Page, place: str = "") -> None:
        """Log a browser in, and go to a place of the page."""
        self.world.codes.add("one-time-code")
        page.goto(f"{self.url}/#/login?code=one-time-code")
        _lead(page, self.url, place)


@dataclass
class Site:
    """A real server of hpc_flows, over SQLite."""

    url: str
    token: str
    home: Path

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask the API; raises urllib's HTTPError for a refusal."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        address = f"{self.url}/api/v1/{path}"
        asked = urllib.request.Request(address, data, method=method)  # noqa: S310 - our own server
        asked.add_header("Authorization", f"Bearer {self.token}")
        asked.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            asked.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(asked, timeout=150) as answer:  # noqa: S310 - the same
            text = answer.read()
        return json.loads(text) if text else None

    def take(self, folder: Path) -> str:
        """Report a run from its folder, as a relay does, and return its id."""
        about = json.loads((folder / "run.json").read_text()) | {"user": "alice"}
        run = str(about["id"])
        self.call("PUT", f"runs/{run}", about)
        lines = b"".join(path.read_bytes() for path in sorted((folder / "journal").iterdir()))
        kind = "application/vnd.hpc-flows.journal"
        self.call("POST", f"runs/{run}/events", lines, Content_Type=kind)
        return run

    def login(self, page: Page, place: str = "") -> None:
        """Log a browser in with a one-time code, and go to a place of the page."""
        page.goto(self.call("POST", "login-codes", {})["url"])
        _lead(page, self.url, place)


def _lead(page: Page, url: str, place: str) -> None:
    """Wait for the Dashboard, and go from it to another place; its lists are not those there."""
    page.wait_for_selector("h1:has-text('Dashboard')")
    if place:
        page.goto(f"{url}/#/{place}")
        page.wait_for_function("document.querySelector('h1')?.innerText !== 'Dashboard'")


def until(page: Page, condition: Callable[[], object]) -> None:
    """Wait until something is so outside of the page, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        page.wait_for_timeout(20)
