"""What a stranger gets of rows that are there and full: nothing, by no route and no word in it.

Everything that Ann has on the server bears a mark. The questions are made from the API's own
description, so that a new route, and a new word of an old one, is asked about too (threat T15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from server_site import API, RUN, TASK_RUN, TOKEN, ServerSite, make_site
from sqlalchemy import MetaData, select
from test_server_denials import PUBLIC, READ, TABLE, body_of

from hpc_flows.server import exporting
from hpc_flows.server.access import people

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

MARK = "canary"
ARTIFACT = f"artifact-{MARK}"
#: The one route whose answer has no end: tests/unit/test_server_stream.py asks it, as a stranger.
ENDLESS = "/stream"
#: What has no text of anybody's in it: who asks, the API itself, and numbers, which a stranger is
#: refused as all that is below a run.
OF_NOBODY = {"/me", "/openapi.json", "/users", "/flow-runs/{id}/usage"}

#: For each word that chooses rows: values by which Ann would find hers.
CHOOSING: dict[str, tuple[Any, ...]] = {
    "run": (RUN,),
    "flow_run": (RUN,),
    "task_run": (TASK_RUN,),
    "task": (f"measure-{MARK}",),
    "name": (f"fox-{MARK}", TASK_RUN, "model.trained"),
    "job": ("351", "351_0"),
    "node": (f"c-{MARK}",),
    "flow": ("census",),
    "tag": (f"tag-{MARK}",),
    "cluster": (f"cluster-{MARK}",),
    "owner": ("ann",),
    "project": (f"project-{MARK}",),
    "parent": ("any", RUN, TASK_RUN),
    "key": (f"key-{MARK}",),
    "type": ("markdown",),
    "resource": (f"model.{MARK}",),
    "state": ("COMPLETED", "RUNNING"),
    "phase": ("queued", "running"),
    "search": (MARK,),
    "open": (f"measure-{MARK}",),
    "arrived": ("0",),
}
#: Words that choose a part or an order of what may be seen.
HARMLESS = {
    *("sort", "limit", "offset", "order", "after", "before", "level", "points", "hours"),
    *("since", "until", "from", "to"),
}


class Ids(NamedTuple):
    """Ids of Ann's rows that the server has chosen."""

    command: str
    token: str


class Marked(NamedTuple):
    """A server, and the ids of what is Ann's."""

    site: ServerSite
    ids: Ids


def _marked(folder: Path) -> Marked:
    """Return a server on which Ann has something of everything."""
    site = make_site(folder)
    _report(site, folder)
    with site.database.writing() as connection:
        own = people.make_project(connection, f"project-{MARK}")
        people.set_member(connection, own, site.users["ann"], "control")
    survey = {"time": 1.0, "scheduler": "slurm", "partitions": [], "error": None}
    beat = {"mode": "login", "host": MARK, "runs": [RUN], "clusters": {f"cluster-{MARK}": survey}}
    _done(site.ask("ann", "POST", f"/relays/relay-{MARK}/heartbeat", json=beat))
    _done(site.ask("ann", "PUT", f"/variables/variable-{MARK}", json={"value": MARK}))
    wish = {"name": MARK, "scopes": ["read"]}
    token = _done(site.ask("ann", "POST", "/tokens", json=wish)).json()["id"]
    given = _done(site.ask("ann", "POST", f"/flow-runs/{RUN}/pause", json={"reason": MARK}))
    return Marked(site, Ids(given.json()["id"], token))


def _report(site: ServerSite, folder: Path) -> None:
    """Report a run of Ann's in which every text that somebody chose bears the mark."""
    from cli_runs import WrittenRun

    run = WrittenRun(folder / "home", name=f"fox-{MARK}")
    run.write(0, "flow-run", id=f"sub-{MARK}", name=f"fox-{MARK}", flow=f"flow-{MARK}",
              tags=[f"tag-{MARK}"], parameters={"p": MARK}, parent_flow_run=RUN)  # fmt: skip
    for n in range(2):
        run.task_run(0.1, f"measure-{n}", f"measure-{MARK}", map_index=n)
    run.job(1, TOKEN, "351", ["measure-0", "measure-1"], cluster=f"cluster-{MARK}")
    where = {"job": "351_0", "node": f"c-{MARK}"}
    run.state(3, TASK_RUN, "FAILED", "Failed", attempt=1, details=where, message=MARK)
    run.write(5, "log", level="INFO", message=MARK, task_run=TASK_RUN, flow_run=RUN)
    run.write(6, "artifact", id=ARTIFACT, type="markdown", key=f"key-{MARK}", data=MARK,
              created=6.0, updated=6.0, flow_run=RUN)  # fmt: skip
    run.write(7, "event", id="e-1", name="model.trained", occurred="2026-01-02T03:04:05+01:00",
              resource={"prefect.resource.id": f"model.{MARK}"}, payload={"a": MARK})  # fmt: skip
    about = {"host": MARK, "created": 1_700_000_000.0, "name": run.name, "flow": f"flow-{MARK}"}
    _done(site.ask("ann", "PUT", f"/runs/{RUN}", json=about))
    journal = folder / "home" / "runs" / RUN / "journal"
    lines = b"".join(path.read_bytes() for path in sorted(journal.iterdir()))
    assert _done(site.send("ann", RUN, lines)).json()["refused"] == 0
    for kind, key in (("script", TOKEN), ("output", TASK_RUN)):
        path = f"/runs/{RUN}/attachments/{kind}/{key}"
        text = {"content": f"#!/bin/sh\n# {MARK}\n", "headers": {"content-type": "text/plain"}}
        _done(site.ask("ann", "PUT", path, **text))


def _done(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code < 300, answer.text
    return answer


@pytest.fixture(scope="module", autouse=True)
def built_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let runs be exported where the page was not built: what is asked about is what is in them."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "export").mkdir()
    for name in ("export.js", "export.css"):
        (folder / "export" / name).write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "page_folder", lambda: folder)
        yield


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    made = _marked(tmp_path_factory.mktemp("server"))
    yield made
    made.site.close()


@pytest.fixture
def own_marked(tmp_path: Path) -> Iterator[Marked]:
    """Give such a server that the test may change."""
    made = _marked(tmp_path)
    yield made
    made.site.close()


def _path(route: str, ids: Ids) -> str:
    """Return a route's path with ids of rows of Ann's in it."""
    path = route.partition(" ")[2]
    subjects = {
        "task-runs": TASK_RUN,
        "tokens": ids.token,
        "commands": ids.command,
        "artifacts": ARTIFACT,
    }
    return path.format(
        run=RUN,
        id=subjects.get(path.split("/")[1], RUN),
        token=TOKEN,
        kind="output",
        key=TASK_RUN,
        relay=f"relay-{MARK}",
        command=ids.command,
        action="cancel",
        name=f"variable-{MARK}",
        user="cleo",
        project="lab",
    )


def _questions(marked: Marked, route: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give all ways to ask a route of reading: plainly, with each word, with each and the run."""
    method, _, path = route.partition(" ")
    about = marked.site.app.openapi()["paths"][API + path][method.lower()]
    words = [each["name"] for each in about.get("parameters", ()) if each["in"] == "query"]
    unknown = set(words) - set(CHOOSING) - HARMLESS
    assert not unknown, f"{route}: say in CHOOSING or HARMLESS what {unknown} choose"
    yield _path(route, marked.ids), {}
    for word in words:
        for value in CHOOSING.get(word, ()):
            yield _path(route, marked.ids), {word: value}
            if "run" in words and word != "run":
                yield _path(route, marked.ids), {word: value, "run": RUN}


READING = sorted(
    route
    for route in (*READ, *TABLE)
    if route.startswith("GET ") and route.partition(" ")[2] != ENDLESS
)


@pytest.mark.parametrize("route", dict.fromkeys(READING))
def test_t15_a_stranger_reads_nothing_of_what_the_owner_reads(marked: Marked, route: str) -> None:
    site = marked.site
    asked = list(_questions(marked, route))
    if route.partition(" ")[2] not in OF_NOBODY:
        seen = (site.ask("ann", "GET", path, params=words).text for path, words in asked)
        assert any(MARK in text for text in seen), "nothing to be hidden: the test tells nothing"
    for path, words in asked:
        answer = site.ask("ben", "GET", path, params=words)
        assert answer.status_code in {200, 403, 404, 422}, answer.text
        told = answer.text.replace(str(words.get("project")), "").replace(path, "")
        assert MARK not in told, (path, words)
        assert MARK not in str(answer.headers)


def test_t15_a_stranger_cannot_tell_what_is_hidden_from_what_is_not_there(marked: Marked) -> None:
    for route, rule in TABLE.items():
        method, _, path = route.partition(" ")
        if rule.to_others != 404 or "{id}" not in path:
            continue
        hidden = marked.site.ask("ben", method, _path(route, marked.ids), **body_of(route))
        nowhere = path.format(id="no-such-thing", action="cancel")
        absent = marked.site.ask("ben", method, nowhere, **body_of(route))
        assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text), route


@pytest.mark.parametrize(
    ("path", "more"), [("/runs/new", {"host": "h"}), ("/flow-runs/bens/project", {})]
)
def test_t15_a_project_of_others_is_refused_as_one_that_is_not_there(
    marked: Marked, path: str, more: dict[str, str]
) -> None:
    _done(marked.site.ask("ben", "PUT", "/runs/bens", json={"host": "h"}))
    hidden, absent = (
        marked.site.ask("ben", "PUT", path, json={**more, "project": name})
        for name in (f"project-{MARK}", "project-absent")
    )
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace(MARK, "absent") == absent.text


def _rows(site: ServerSite) -> dict[str, list[Any]]:
    """Return all rows of the database, but for when tokens were last used."""
    found = MetaData()
    with site.database.reading() as connection:
        found.reflect(connection)
        chosen = {
            table: [column for column in table.c if column.name != "last_used"]
            for table in found.sorted_tables
        }
        return {
            table.name: sorted(map(str, connection.execute(select(*columns))))
            for table, columns in chosen.items()
        }


def test_t15_whatever_a_stranger_asks_for_no_row_changes_and_its_owner_may(
    own_marked: Marked,
) -> None:
    """The owner is not refused: so what the stranger was refused is there, and is named rightly."""
    site, ids = own_marked
    own = [route for route, rule in TABLE.items() if rule.to_others == 404]
    # What cannot be undone comes last.
    own.sort(key=lambda route: route.startswith("DELETE"))
    before = _rows(site)
    for route in own:
        method, _, _ = route.partition(" ")
        answer = site.ask("ben", method, _path(route, ids), **body_of(route))
        assert answer.status_code == 404, route
    assert _rows(site) == before
    for route in own:
        method, _, _ = route.partition(" ")
        answer = site.ask("ann", method, _path(route, ids), **body_of(route))
        assert answer.status_code < 300, (route, answer.text)
    assert _rows(site) != before


def test_every_route_is_asked_about_here_or_says_why_not() -> None:
    """A list, a stream, an export, an attachment, a command: none is left out."""
    asked = {*READING, *(route for route, rule in TABLE.items() if rule.to_others == 404)}
    left = set(TABLE) - asked
    refused = {route for route in left if TABLE[route].to_others == 403}
    assert left - refused - set(PUBLIC) == {
        "GET /stream",  # test_server_stream.py: nobody is told of runs that they may not see
        "POST /runs/counts",  # below
        "POST /relays/{relay}/heartbeat",  # test_server_denials.py: a relay id of another user
        "POST /login-codes",  # these are about who asks
        "POST /logout",
        "PUT /variables/{name}",  # below
    }


def test_t15_a_stranger_who_compares_counts_learns_nothing(marked: Marked) -> None:
    held = {"runs": {RUN: {"driver": 1}, "no-such-run": {"driver": 1}}}
    told = marked.site.ask("ben", "POST", "/runs/counts", json=held).json()
    alone = [marked.site.ask("ben", "POST", "/runs/counts", json={"runs": {run: {"driver": 1}}})
             for run in held["runs"]]  # fmt: skip
    assert alone[0].text.replace(RUN, "no-such-run") == alone[1].text
    assert MARK not in str(told)


def test_t15_a_variable_of_the_same_name_is_another_one(own_marked: Marked) -> None:
    site, name = own_marked.site, f"variable-{MARK}"
    assert site.ask("ben", "PUT", f"/variables/{name}", json={"value": "his"}).status_code == 200
    values = {
        who: [each["value"] for each in site.ask(who, "GET", "/variables").json()["items"]]
        for who in ("ann", "ben")
    }
    assert values == {"ann": [MARK], "ben": ["his"]}
