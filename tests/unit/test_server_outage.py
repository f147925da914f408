"""A database that cannot be used now is told apart from a request that is wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from server_site import make_site
from sqlalchemy import create_engine, text
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError

from hpc_flows.server import owning
from hpc_flows.server.db.outage import is_outage

if TYPE_CHECKING:
    from pathlib import Path

    from services.postgresql import PostgreSQL
    from sqlalchemy import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = create_engine(f"sqlite:///{tmp_path}/some.db", connect_args={"timeout": 0})
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)"))
    return made


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def trouble(engine: Engine, *statements: str) -> BaseException:
    with pytest.raises(DBAPIError) as raised:
        run(engine, *statements)
    return raised.value


def test_a_full_disk_is_an_outage(engine: Engine) -> None:
    fill = "INSERT INTO rows (body) VALUES (hex(randomblob(100000)))"
    assert is_outage(trouble(engine, "PRAGMA max_page_count = 10", fill))
    engine.dispose()


def test_a_file_that_others_hold_is_an_outage(engine: Engine) -> None:
    with engine.connect() as holder:
        holder.execute(text("BEGIN EXCLUSIVE"))
        assert is_outage(trouble(engine, "INSERT INTO rows (body) VALUES ('x')"))
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    ["SELECT nothing FROM nowhere", "INSERT INTO rows (id) VALUES (1), (1)", "SELECT 1,"],
)
def test_a_statement_that_is_wrong_is_none(engine: Engine, statement: str) -> None:
    assert not is_outage(trouble(engine, statement))
    engine.dispose()


def test_other_errors_are_none() -> None:
    assert not is_outage(OSError("no space left on device"))


def test_a_database_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.database.engine.dispose()
    # As on a full disk: the use of a token, which is new, cannot be noted.
    listen(site.database.engine, "connect", lambda made, _: made.execute("PRAGMA query_only=ON"))
    assert site.ask("ann", "GET", "/dashboard").status_code == 200
    beat = {"mode": "login", "host": "login1", "runs": []}
    assert site.ask("ann", "POST", "/relays/r1/heartbeat", json=beat).status_code == 503
    site.close()


def test_relays_are_asked_to_wait_while_postgresql_is_away_and_go_on_when_it_is_back(
    postgresql: PostgreSQL, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgresql.create()
    site = make_site(tmp_path / "server", url)
    site.report("ann", tmp_path / "home")
    beat = {"mode": "login", "host": "login1", "runs": []}
    postgresql.stop()
    try:
        with caplog.at_level(logging.ERROR):
            told = site.ask("ann", "POST", "/relays/r1/heartbeat", json=beat)
        assert told.status_code == 503
        assert told.headers["Retry-After"] == "5"
        assert told.json()["error"] == "no-database"
        # A line for each request, and no traceback.
        (record,) = [each for each in caplog.records if each.name == "hpc_flows.server"]
        assert record.exc_info is None
        assert "heartbeat" in record.getMessage()
    finally:
        postgresql.start()
    assert site.ask("ann", "POST", "/relays/r1/heartbeat", json=beat).status_code == 200
    site.close()
    postgresql.drop(url)


def test_a_server_ends_quietly_though_postgresql_was_restarted_under_it(
    postgresql: PostgreSQL,
) -> None:
    url = postgresql.create()
    with owning.opened(url) as database, owning.held(database):
        postgresql.stop()
        postgresql.start()
        database.ping()
    with owning.opened(url) as again, owning.held(again):
        again.ping()
    postgresql.drop(url)
