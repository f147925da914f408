"""The services of the tests: each test has its own database, and a Chromium draws."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from services.postgresql import PostgreSQL


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_has_an_empty_database(postgresql_url: str, round_: int) -> None:
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE mark (x int)")


def test_a_template_is_filled_once_and_copied(postgresql: PostgreSQL) -> None:
    filled = []

    def fill(address: str) -> None:
        filled.append(address)
        with psycopg.connect(address) as connection:
            connection.execute("CREATE TABLE sample AS SELECT 7 AS x")

    for _ in range(2):
        address = postgresql.create(postgresql.template("sample", fill))
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT x FROM sample").fetchall() == [(7,)]
        postgresql.drop(address)
    assert len(filled) == 1


def test_a_restarted_postgresql_has_all_its_data(postgresql: PostgreSQL) -> None:
    address = postgresql.create()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    postgresql.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)
    postgresql.start()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (1,)
    postgresql.drop(address)


def test_chromium_draws_a_page(chromium_path: str, tmp_path: Path) -> None:
    words = "--headless --no-sandbox --disable-gpu --dump-dom".split()
    page = "data:text/html,<p id=x></p><script>x.textContent=6*7</script>"
    argv = [chromium_path, *words, f"--user-data-dir={tmp_path}", page]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert ">42</p>" in done.stdout
