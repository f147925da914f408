"""Users and projects: names that are taken, accounts that were closed, changes at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from server_site import ServerSite, make_site

from hpc_flows.exceptions import ServerError
from hpc_flows.server import owning
from hpc_flows.server.access import people

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServerSite]:
    made = make_site(tmp_path)
    yield made
    made.close()


def test_the_name_of_a_closed_account_is_taken_and_so_it_is_said(site: ServerSite) -> None:
    assert site.ask("root", "DELETE", "/users/ben").status_code == 204
    answer = site.ask("root", "POST", "/users", json={"name": "ben"})
    assert answer.status_code == 409
    assert "was closed" in answer.json()["message"]


def test_who_starts_a_server_is_told_that_the_account_was_closed(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ben")
    assert owning.own_user(site.database) == site.users["ben"]
    site.ask("root", "DELETE", "/users/ben")
    with pytest.raises(ServerError, match="account 'ben' was closed"):
        owning.own_user(site.database)


def test_a_name_that_no_user_can_have_keeps_nobody_from_starting_a_server(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "SITE\\ann")
    assert owning.own_name() == f"user-{os.getuid()}"
    assert owning.own_user(site.database) not in site.users.values()


@pytest.mark.services
def test_people_who_change_the_same_at_once_get_a_plain_answer(
    postgresql_url: str, tmp_path: Path
) -> None:
    site = make_site(tmp_path, postgresql_url)
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/users", {"name": "eve"}),
        ("POST", "/projects", {"name": "new"}),
        ("PUT", "/projects/lab/members/ben", {"role": "read"}),
    ]
    told = {}
    with ThreadPoolExecutor(6) as pool:
        for method, path, body in asked:
            answers = [pool.submit(site.ask, "root", method, path, json=body) for _ in range(6)]
            told[path] = sorted(each.result().status_code for each in answers)
    once = [201, *[409] * 5]
    assert told == {"/users": once, "/projects": once, "/projects/lab/members/ben": [200] * 6}
    site.close()


@pytest.mark.services
def test_t2_of_two_admins_who_close_each_others_accounts_at_once_one_is_left(
    postgresql_url: str, tmp_path: Path
) -> None:
    site = make_site(tmp_path, postgresql_url)
    for at in range(5):
        pair = f"one{at}", f"other{at}"
        with site.database.writing() as connection:
            connection.exec_driver_sql("UPDATE users SET is_admin = false")
            for name in pair:
                site.users[name] = people.make_user(connection, name, is_admin=True)
        site.tokens |= {name: site.token(name) for name in pair}
        with ThreadPoolExecutor(2) as pool:
            answers = [
                pool.submit(site.ask, one, "DELETE", f"/users/{other}")
                for one, other in (pair, pair[::-1])
            ]
            told = sorted(each.result().status_code for each in answers)
        # Who was closed before asking is refused as anybody without a token.
        assert told in ([204, 409], [204, 401])
    site.close()
