"""Artifacts of many megabytes: they come in parts, are bounded, and are shown as they were."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pytest
from server_data import line
from server_site import RUN, ServerSite, make_site

from hpc_flows.journal.event import Event
from hpc_flows.reporting.attachments import Attachments
from hpc_flows.reporting.cursors import Cursor
from hpc_flows.reporting.server_sink import PART as SENT
from hpc_flows.reporting.server_sink import _pieces
from hpc_flows.reporting.sink import Line, RunAbout, Sink
from hpc_flows.server.ingest import kept_texts
from hpc_flows.server.ingest.kept_texts import LARGEST, PART

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from hpc_flows.reporting.sink import Attachment

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]
AT = f"/runs/{RUN}/attachments/artifact/big"


@pytest.fixture(params=BOTH)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerSite]:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    made = make_site(tmp_path, url)
    made.ask("ann", "PUT", f"/runs/{RUN}", json={})
    yield made
    made.close()


def artifact_event(size: int) -> Event:
    facts = {"id": "big", "type": "table", "created": 1.0, "updated": 1.0, "size": size}
    return Event(RUN, "driver", 1, 1.0, 0.0, "artifact", {**facts, "file": f"runs/{RUN}/a.json"})


def content(megabytes: float) -> bytes:
    """Return JSON of that size, whose parts differ."""
    rows = [{"row": at, "text": "x" * 1000} for at in range(int(megabytes * 1000))]
    return json.dumps(rows).encode()


def put(site: ServerSite, piece: bytes, query: str = "", who: str = "ann") -> httpx.Response:
    return site.ask(
        who, "PUT", AT + query, content=piece, headers={"content-type": "application/json"}
    )


def put_all(site: ServerSite, whole: bytes) -> list[httpx.Response]:
    return [put(site, piece, query) for query, piece in _pieces(whole)]


def test_a_large_artifact_is_shown_as_it_was_once_all_parts_are_there(site: ServerSite) -> None:
    whole = content(2.5)
    site.send("ann", RUN, line(artifact_event(len(whole))))
    *first, last = _pieces(whole)
    for query, piece in reversed(first):
        assert put(site, piece, query).status_code == 200
    assert site.ask("ann", "GET", "/artifacts/big").json()["has_data"] is False
    before = site.ask("ann", "GET", f"/flow-runs/{RUN}").status_code
    told = put(site, last[1], last[0]).json()["version"]
    assert put(site, last[1], last[0]).status_code == 200  # as after an answer that was lost
    shown = site.ask("ann", "GET", "/artifacts/big").json()
    assert shown["data"] == json.loads(whole)
    assert (shown["id"], shown["has_data"], shown["type"]) == ("big", True, "table")
    listed = site.ask("ann", "GET", f"/artifacts?run={RUN}").json()["items"][0]
    assert (listed["data"], listed["has_data"]) == (None, True)
    assert site.ask("ben", "GET", "/artifacts/big").status_code == 404
    assert (before, told > 1) == (404, True)


def test_a_newer_content_takes_the_place_of_parts_that_wait(site: ServerSite) -> None:
    site.send("ann", RUN, line(artifact_event(1)))
    old, new = content(1.5), content(2.2)
    put_all(site, old[:-1] + b" ")  # no JSON any more: nothing of it is kept
    first = next(iter(_pieces(old)))
    put(site, first[1], first[0])
    assert [answer.status_code for answer in put_all(site, new)] == [200, 200, 200]
    assert site.ask("ann", "GET", "/artifacts/big").json()["data"] == json.loads(new)
    assert put(site, b"[1]").status_code == 200
    assert site.ask("ann", "GET", "/artifacts/big").json()["data"] == [1]


@pytest.mark.parametrize(
    ("query", "size", "told"),
    [
        ("?part=1&parts=2", 5, "all three"),
        ("?part=1&digest=" + "0" * 64, 5, "all three"),
        ("?part=3&parts=2&digest=" + "0" * 64, 5, "Part 3 of 2 cannot be"),
        ("?part=1&parts=17&digest=" + "0" * 64, PART, "less than or equal to 16"),
        ("?part=1&parts=2&digest=" + "x" * 64, PART, "digest"),
        ("?part=1&parts=2&digest=" + "0" * 64, 5, "Each part but the last has 1048576 bytes"),
        ("?part=1&parts=1&digest=" + "0" * 64, 0, "Each part but the last"),
        ("?part=1&parts=1&digest=" + "0" * 64, 5, "do not make what their digest says"),
    ],
)
def test_parts_that_cannot_be_are_refused_with_the_reason(
    tmp_path: Path, query: str, size: int, told: str
) -> None:
    site = make_site(tmp_path)
    site.ask("ann", "PUT", f"/runs/{RUN}", json={})
    answer = put(site, b"x" * size, query)
    assert answer.status_code == 422, answer.text
    assert told in answer.json()["message"]
    site.close()


def test_what_is_no_json_is_refused_and_forgotten(site: ServerSite) -> None:
    for whole in (b"[" + b"1," * PART, b'["' + b"x" * PART + b'", NaN]'):
        answers = put_all(site, whole)
        assert answers[-1].status_code == 422
        assert "An artifact is JSON" in answers[-1].json()["message"]
    with site.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM attachment_parts").scalar()
    assert rows == 0


def test_scripts_and_output_do_not_come_in_parts_nor_for_strangers(site: ServerSite) -> None:
    query = "?part=1&parts=2&digest=" + "0" * 64
    plain = {"content-type": "text/plain"}
    path = f"/runs/{RUN}/attachments/output/t"
    answer = site.ask("ann", "PUT", path + query, content=b"x" * PART, headers=plain)
    assert answer.status_code == 422
    assert "Only artifacts come in parts" in answer.json()["message"]
    assert put(site, b"x" * PART, query, who="ben").status_code == 404
    assert put(site, b"x" * (PART + 2**17), query).status_code == 413


def test_a_run_has_so_much_room_for_artifacts_and_then_is_told(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_texts, "QUOTA", 4 * PART)
    site.send("ann", RUN, line(artifact_event(1)))
    assert put_all(site, content(2.5))[-1].status_code == 200
    assert put_all(site, content(2.6))[-1].status_code == 200  # in its place
    other = AT.replace("big", "other")
    query = "?part=1&parts=3&digest=" + "0" * 64
    json_ = {"content-type": "application/json"}
    refused = site.ask("ann", "PUT", other + query, content=b"x" * PART, headers=json_)
    assert (refused.status_code, refused.json()["error"]) == (413, "over-quota")
    assert "more than the 4194304 that they may" in refused.json()["message"]
    small = site.ask("ann", "PUT", other, content=b"[2]", headers=json_)
    assert small.status_code == 200
    half = "?part=1&parts=2&digest=" + "1" * 64
    assert site.ask("ann", "PUT", other + half, content=b"x" * PART, headers=json_).is_success
    third = AT.replace("big", "third")  # parts that wait take room as well
    full = site.ask("ann", "PUT", third + half, content=b"x" * PART, headers=json_)
    assert full.status_code == 413
    assert site.ask("ann", "GET", "/artifacts/big").json()["data"] == json.loads(content(2.6))


class _Keeps(Sink):
    """Keeps what is attached."""

    takes_attachments = True

    def __init__(self) -> None:
        self.got: dict[str, int] = {}

    def open(self) -> str:
        return ""

    def register(self, run: RunAbout) -> str:
        raise AssertionError(run)

    def send(self, batch: Any) -> Any:
        raise AssertionError(batch)

    def attach(self, run: RunAbout, attachment: Attachment) -> int:
        assert run.id == RUN
        self.got[attachment.key] = len(attachment.content)
        return 1


def test_a_relay_sends_large_artifacts_and_leaves_out_what_no_server_takes(tmp_path: Path) -> None:
    sizes = {"small": 10, "large": PART + 5, "largest": LARGEST, "larger": LARGEST + 1}
    cursor, lines = Cursor(RUN), []
    for at, (key, size) in enumerate(sizes.items(), start=1):
        (tmp_path / f"{key}.json").write_bytes(b'"' + b"x" * (size - 2) + b'"')
        facts = {"id": key, "file": f"runs/{RUN}/{key}.json", "size": size}
        event = Event(RUN, "driver", at, 1.0, 0.0, "artifact", facts)
        lines.append(Line("driver", line(event)[:-1]))
    files = Attachments(RunAbout(RUN, str(tmp_path), {}), cursor)
    files.note(lines)
    assert len(cursor.due) == 4
    sink = _Keeps()
    while cursor.due:
        files.send(sink, lambda version: version)
    assert sink.got == {"small": 10, "large": PART + 5, "largest": LARGEST}


def test_parts_make_the_whole_and_fit_the_server() -> None:
    whole = bytes(range(256)) * 10_000
    pieces = list(_pieces(whole))
    assert SENT == PART
    assert b"".join(piece for _, piece in pieces) == whole
    assert {len(piece) for _, piece in pieces[:-1]} == {PART}
    digest = blake2b(whole, digest_size=32).hexdigest()
    assert pieces[-1][0] == f"?part=3&parts=3&digest={digest}"
    assert list(_pieces(b"x")) == [("", b"x")]
