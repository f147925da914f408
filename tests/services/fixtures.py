"""Fixtures over real services, started by the first test that asks; a plugin of tests/conftest.py.

Tests that use one carry the mark `services`, given here. Where a service is missing they are
skipped, with the reason; with `CI=true` in the environment that is a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from services.postgresql import PostgreSQL
    from services.prefect_server import PrefectServer
    from services.sshd import Sshd

#: Fixtures by which a test is known to need a service.
_FIXTURES = frozenset(
    {"postgresql", "postgresql_url", "chromium_path", "prefect_python", "prefect_server", "sshd"}
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a service, before marks are selected."""
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Give a PostgreSQL for all tests: `create`, `drop`, `template`, `stop`, `start`."""
    from services.postgresql import start_postgresql

    server = start_postgresql()
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """Give the address of an empty PostgreSQL database of the test's own."""
    address = postgresql.create()
    yield address
    postgresql.drop(address)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Give an OpenSSH server of the test's own, on loopback."""
    from services.sshd import Sshd

    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the path of a Chromium, for Playwright's `executable_path`."""
    from services.chromium import find_chromium

    return find_chromium()


@pytest.fixture(scope="session")
def prefect_python() -> Path:
    """Return the Python of an environment with Prefect 3."""
    from services.prefect_server import find_prefect

    return find_prefect()


@pytest.fixture(scope="session")
def prefect_server(prefect_python: Path) -> Iterator[PrefectServer]:
    """Give a Prefect server for all tests, without authentication."""
    from services.prefect_server import PrefectServer

    server = PrefectServer(prefect_python)
    try:
        yield server.start()
    finally:
        server.remove()
