"""Fixtures of the page's tests: a built page, a browser that forgives nothing, and servers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import PATIENCE, Browsing, FixtureSite, Site
from fixture_server import World, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
#: Chromium looks for nobody outside, and a root in a container may start it.
FLAGS = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def load_building() -> ModuleType:
    """Load building.py as the build hook does, without what is installed."""
    path = ROOT / "hpc_flows/server/page/building.py"
    spec = importlib.util.spec_from_file_location("page_building", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["page_building"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def building() -> ModuleType:
    return load_building()


@pytest.fixture(scope="session")
def built_page(building: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the built page, which is built first if the sources changed."""
    from services import absent

    page = ROOT / "hpc_flows/server/page"
    if not building.is_fresh(page) and not building.has_node():
        absent("There is no Node that builds the page")
    copy = tmp_path_factory.mktemp("page") / "dist"
    shutil.copytree(building.build(page), copy)
    return copy


@pytest.fixture(scope="session")
def chromium(chromium_path: str) -> Iterator[Browser]:
    """Give one browser for all tests; each has a context of its own."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def browsing(chromium: Browser) -> Iterator[Browsing]:
    """Give pages; the test fails if one of them logged an error or a breach of the policy."""
    made = Browsing(chromium)
    yield made
    for context in made.contexts:
        context.close()
    assert made.complaints == []


@pytest.fixture
def browser_page(browsing: Browsing) -> Page:
    """Give one wide page, see `browsing`."""
    return browsing.page()


@pytest.fixture
def fixture_site(built_page: Path) -> Iterator[FixtureSite]:
    """Give a server with 1,234 made-up flow runs."""
    world = World()
    world.page = built_page
    server = serve(world)
    yield FixtureSite(f"http://127.0.0.1:{server.server_address[1]}", world)
    world.down = True
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(built_page: Path, tmp_path: Path) -> Iterator[Site]:
    """Give a real server on a free port of loopback, which ends with the test."""
    home = tmp_path / "server-home"
    command = [sys.executable, "-m", "hpc_flows", "server", "start"]
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0"],
        env={**os.environ, "HPC_FLOWS_HOME": str(home)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        endpoint = home / "server" / "endpoint.json"
        _wait_for(endpoint, process, tmp_path / "server.log")
        url = json.loads(endpoint.read_text())["url"].rstrip("/")
        yield Site(url, (home / "server" / "token").read_text().strip(), home)
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def _wait_for(file: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 150
    while not file.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
