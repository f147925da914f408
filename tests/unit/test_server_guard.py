"""What no request gets past: foreign pages, rebound names, bombs, floods, odd paths and texts."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_site import API, BASE, PATIENT, RUN, ServerSite, make_site

from hpc_flows.server import bodies
from hpc_flows.server.access.guard import JOURNAL, Hosts
from hpc_flows.server.access.rates import Buckets, Rate
from hpc_flows.server.bodies import Unpacker
from hpc_flows.server.problems import Problem, encode
from hpc_flows.server.routes import static

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    folder = tmp_path_factory.mktemp("server")
    made = make_site(folder)
    made.report("ann", folder / "home")
    yield made
    made.close()


# Threat T3: what a foreign page in the same browser can do.


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:4200", "localhost.evil.example", "a@127.0.0.1", "",
     "127.0.0.1, evil.example", "[::1", "192.168.1.9:4200", "127.0.0.1:x"],
)  # fmt: skip
def test_t3_a_rebound_name_is_not_answered(site: ServerSite, host: str) -> None:
    for path in ("/", f"{API}/health", f"{API}/flow-runs"):
        answer = site.request("GET", path, "ann", headers={"host": host})
        assert (answer.status_code, answer.json()["error"]) == (421, "unknown-host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:4200"])
def test_t3_own_names_are_answered_on_any_port(site: ServerSite, host: str) -> None:
    assert site.request("GET", f"{API}/health", headers={"host": host}).status_code == 200


def test_t3_other_names_have_to_be_allowed() -> None:
    assert Hosts.of(["Runs.Site.EDU"]).allows("runs.site.edu:443")
    assert not Hosts.of([]).allows("10.0.0.7:4200")
    assert Hosts.of([], any_address=True).allows("10.0.0.7:4200")
    assert Hosts.of([], any_address=True).allows("[fe80::1]:4200")
    assert not Hosts.of([], any_address=True).allows("runs.site.edu")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:4200.evil.example",
     "file://127.0.0.1:4200", "http://127.0.0.1:4200, http://evil.example"],
)  # fmt: skip
def test_t3_changes_are_taken_from_the_own_origin_only(site: ServerSite, origin: str) -> None:
    for method, path in (("POST", "/login"), ("PUT", "/variables/x"), ("DELETE", "/tokens/0")):
        answer = site.ask("ann", method, path, json={}, headers={"origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (403, "foreign-origin")


def test_t3_the_own_page_and_programs_are_heard(site: ServerSite) -> None:
    value = {"value": 1}
    for headers in ({"origin": BASE}, {}, {"origin": BASE, "sec-fetch-site": "same-origin"}):
        answer = site.ask("ann", "PUT", "/variables/heard", json=value, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize("caused_by", ["cross-site", "same-site"])
def test_t3_what_another_page_or_port_caused_is_refused_where_the_browser_says_so(
    site: ServerSite, caused_by: str
) -> None:
    headers = {"sec-fetch-site": caused_by}
    assert site.ask("ann", "GET", "/flow-runs", headers=headers).status_code == 403
    assert site.ask("ann", "POST", "/logout", headers=headers).status_code == 403
    # A link in a mail leads to the page, in which is nothing yet.
    assert site.request("GET", "/", headers=headers).status_code in {200, 503}


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "text/html"]
)
def test_t3_what_a_form_can_send_is_no_request(site: ServerSite, kind: str) -> None:
    for path in ("/login", "/tokens", f"/flow-runs/{RUN}/cancel", f"/runs/{RUN}/events"):
        answer = site.ask("ann", "POST", path, content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]) == (415, "unknown-type")


def test_t3_no_other_origin_is_ever_allowed(site: ServerSite) -> None:
    asked = {
        "origin": "http://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    answers = [
        site.ask("ann", "GET", "/me", headers=asked),
        site.ask(None, "OPTIONS", "/flow-runs", headers=asked),
        site.request("GET", "/", headers=asked),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_t3_every_answer_carries_what_browsers_must_not_do(site: ServerSite) -> None:
    answers = [
        site.request("GET", "/"),
        site.ask("ann", "GET", "/me"),
        site.ask(None, "GET", "/me"),
        site.ask("ann", "GET", "/nowhere"),
        site.request("GET", "/", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert site.ask("ann", "GET", "/me").headers["cache-control"] == "no-store"


# Threat T14: what is large, or grows.


def _events(site: ServerSite, content: bytes, **headers: str) -> httpx.Response:
    head = {"content-type": JOURNAL, **headers}
    return site.ask("ann", "POST", f"/runs/{RUN}/events", content=content, headers=head)


def test_t14_a_gzip_bomb_is_refused_before_it_grows(site: ServerSite) -> None:
    bomb = gzip.compress(b"\n" * (100 * 2**20), 6)
    assert len(bomb) < bodies.PACKED
    answer = _events(site, bomb, **{"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (413, "too-large")


def test_t14_a_bomb_in_many_members_is_refused_too(site: ServerSite) -> None:
    bomb = gzip.compress(b"x" * 2**20) * 100
    answer = _events(site, bomb, **{"content-encoding": "gzip"})
    assert answer.status_code == 413


def test_t14_what_is_unpacked_never_exceeds_the_limit_by_more_than_a_step() -> None:
    unpacker = Unpacker(most=10**6)
    packed = zlib.compressobj(wbits=31)
    bomb = packed.compress(bytes(10**8)) + packed.flush()
    with pytest.raises(Problem):
        unpacker.feed(bomb)
    assert len(unpacker._made) < 10**6 + 2**18 + 1


@given(st.binary(max_size=5000), st.lists(st.integers(1, 400), max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_comes_in_pieces_is_unpacked_as_it_was(content: bytes, cuts: list[int]) -> None:
    packed, unpacker = gzip.compress(content[:99]) + gzip.compress(content[99:]), Unpacker()
    for cut in cuts:
        unpacker.feed(packed[:cut])
        packed = packed[cut:]
    unpacker.feed(packed)
    assert unpacker.end() == content


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"x" * 99)[:-9], b""])
def test_t14_a_damaged_stream_is_refused_with_its_reason(site: ServerSite, body: bytes) -> None:
    answer = _events(site, body, **{"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (400, "not-gzip")


def test_t14_an_encoding_that_nobody_speaks_is_refused(site: ServerSite) -> None:
    assert _events(site, b"x", **{"content-encoding": "br"}).status_code == 415


def test_t14_large_bodies_are_refused_by_their_length_and_by_their_bytes(site: ServerSite) -> None:
    large = b"x" * (bodies.PACKED + 1)
    assert _events(site, large).status_code == 413

    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 2**16

    json_type = {"content-type": "application/json"}
    for path in ("/tokens", "/login", f"/flow-runs/{RUN}/cancel"):
        answer = site.ask("ann", "POST", path, content=pieces(), headers=json_type)
        assert (answer.status_code, answer.json()["error"]) == (413, "too-large")


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"scopes":' * 50_000, b"\xff\xfe", b"nonsense", b'"\\ud800"', b"1e999"],
)
def test_t14_json_that_is_no_request_is_refused_not_died_of(site: ServerSite, body: bytes) -> None:
    for path in ("/tokens", "/runs/counts", "/relays/r/heartbeat"):
        answer = site.ask(
            "ann", "POST", path, content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code in {400, 422}
        assert set(answer.json()) == {"error", "message"}


def test_t14_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    limits = PATIENT._replace(reading=Rate(1, 3))
    site = make_site(tmp_path, limits=limits)
    answers = [site.ask("ann", "GET", "/me") for _ in range(6)]
    assert [each.status_code for each in answers[:3]] == [200, 200, 200]
    last = answers[-1]
    assert (last.status_code, last.json()["error"]) == (429, "too-many-requests")
    assert int(last.headers["retry-after"]) >= 1
    assert site.ask("ben", "GET", "/me").status_code == 200
    site.close()


def test_t14_guessing_is_slowed_and_never_locks_out_who_has_a_token(tmp_path: Path) -> None:
    site = make_site(tmp_path, limits=PATIENT._replace(failures=Rate(0.01, 3)))
    wrong = {"authorization": "Bearer hpcf_000000000000_" + "x" * 43}
    seen = [site.ask(None, "GET", "/me", headers=wrong).status_code for _ in range(5)]
    assert seen == [401, 401, 401, 429, 429]
    assert site.ask(None, "POST", "/login", json={"code": "guess"}).status_code == 429
    assert site.ask("ann", "GET", "/me").status_code == 200
    site.close()


def test_a_bucket_fills_again_and_forgets_the_oldest() -> None:
    now = 0.0
    buckets = Buckets(Rate(2, 4), most=2, clock=lambda: now)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now = 1.0
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.5]
    buckets.take("b")
    buckets.take("c")
    assert buckets.take("a", 4) == 0


# Threats T8 and T9: paths that lead elsewhere, and texts that become pages.


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/..%2f..%2fetc/passwd", "/assets/../../../__init__.py", "//etc/passwd",
     "/%2e%2e/%2e%2e/settings.py", "/assets/%00", "/etc/passwd", "/index.html/../../app.py"],
)  # fmt: skip
def test_t8_no_path_leads_out_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(static, "page_folder", lambda: tmp_path)
    site = make_site(tmp_path / "server")
    answer = site.request("GET", path)
    assert answer.status_code in {400, 404}
    assert "root:" not in answer.text
    site.close()


def test_t8_ids_are_no_paths(site: ServerSite) -> None:
    for id_ in ("..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "..%5c..", "a%00b"):
        for path in (f"/artifacts/{id_}", f"/task-runs/{id_}/output", f"/jobs/{RUN}/{id_}"):
            answer = site.ask("ann", "GET", path)
            assert answer.status_code in {400, 404}
            assert "root:" not in answer.text


def test_the_page_is_given_with_its_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>hpc_flows</title>")
    (tmp_path / "assets" / "index-abc.js").write_text("export {};" * 500)
    monkeypatch.setattr(static, "page_folder", lambda: tmp_path)
    site = make_site(tmp_path / "server")
    index, script = site.request("GET", "/"), site.request("GET", "/assets/index-abc.js")
    assert (index.status_code, index.headers["cache-control"]) == (200, "no-cache")
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert script.headers["content-type"].startswith("text/javascript")
    site.close()


def test_a_page_that_was_not_built_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise static.PageNotBuilt("The page is not built: run `make page`.")

    monkeypatch.setattr(static, "page_folder", missing)
    site = make_site(tmp_path)
    answer = site.request("GET", "/")
    assert answer.status_code == 503
    assert "make page" in answer.text
    assert site.ask(None, "GET", "/health").status_code == 200
    site.close()


def test_t9_texts_that_are_scripts_come_back_as_json_that_no_browser_takes_for_a_page(
    tmp_path: Path,
) -> None:
    site = make_site(tmp_path)
    nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>\u2028\x1b]0;x\x07"
    site.report("ann", tmp_path / "home", "xss-run", name=nasty, flow=nasty)
    for path in ("/flow-runs", "/flow-runs/xss-run", "/dashboard"):
        answer = site.ask("ann", "GET", path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.ask("ann", "GET", "/flow-runs/xss-run").json()["name"] == nasty
    refused = site.ask("ann", "GET", "/flow-runs", params={"sort": nasty})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/json"
    site.close()


def test_an_answer_is_json_whatever_a_journal_had_in_it() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": "\ud800", "d": "\0"}
    told = json.loads(encode(value))
    assert (told["a"], told["b"], told["d"]) == (None, [None, 1.5], "\0")


def test_an_error_that_nobody_foresaw_tells_a_stranger_nothing(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("hpc_flows.server.routes.flow_runs.overview.dashboard", fail)
    answer = site.ask("ann", "GET", "/dashboard")
    assert answer.status_code == 500
    mark = answer.json()["message"].split()[-1].rstrip(".")
    assert "secret detail" not in answer.text
    assert mark in caplog.text
    assert "secret detail" in caplog.text


def test_wrong_methods_and_addresses_are_told_in_one_form(site: ServerSite) -> None:
    wrong = site.ask("ann", "PATCH", "/flow-runs")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method-not-allowed")
    assert site.ask("ann", "GET", "/nowhere").json()["error"] == "not-found"
    odd = site.ask("ann", "GET", "/flow-runs", params={"limit": "1; DROP TABLE"})
    assert (odd.status_code, odd.json()["error"]) == (422, "invalid")
    assert site.ask("ann", "GET", "/flow-runs", params={"flwo": "x"}).status_code == 422


def test_a_wrong_value_is_not_repeated_in_the_refusal(site: ServerSite) -> None:
    answer = site.ask("ann", "POST", "/login", json={"code": "", "password": "hunter2"})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


def test_asyncio_is_not_blocked_by_an_open_question(site: ServerSite) -> None:
    """Several requests at once are answered by one loop."""
    import httpx

    async def many() -> list[int]:
        way = httpx.ASGITransport(site.app)
        head = {"authorization": f"Bearer {site.tokens['ann']}"}
        async with httpx.AsyncClient(transport=way, base_url=BASE, headers=head) as client:
            asked = [client.get(f"{API}/flow-runs") for _ in range(20)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(many()) == [200] * 20
