"""Logging a browser in, proving who the server is, and what the database and the log keep of it."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from server_site import BASE, RUN, ServerSite, make_site, past

from hpc_flows.client.proof import check_proof
from hpc_flows.server.access import grants, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServerSite]:
    made = make_site(tmp_path)
    yield made
    made.close()


def _code(site: ServerSite, who: str = "ann", **wanted: object) -> str:
    answer = site.ask(who, "POST", "/login-codes", json=wanted or None)
    assert answer.status_code == 201, answer.text
    code: str = answer.json()["code"]
    return code


def _login(site: ServerSite, code: str) -> httpx.Response:
    return site.ask(None, "POST", "/login", json={"code": code}, headers={"origin": BASE})


def _session(answer: httpx.Response) -> dict[str, str]:
    name, _, rest = answer.headers["set-cookie"].partition("=")
    return {"cookie": f"{name}={rest.partition(';')[0]}"}


def test_t4_the_code_stands_where_no_browser_sends_it(site: ServerSite) -> None:
    before = time.time()
    made = site.ask("ann", "POST", "/login-codes").json()
    assert made["url"] == f"{BASE}/#/login?code={made['code']}"
    assert before - 1 <= made["expires"] - 120 <= time.time() + 1


def test_t4_a_code_logs_in_once(site: ServerSite) -> None:
    code = _code(site)
    first, second = _login(site, code), _login(site, code)
    assert (first.status_code, first.json()["user"]) == (200, "ann")
    assert (second.status_code, second.json()["error"]) == (401, "unauthorized")
    assert "set-cookie" not in second.headers


def test_t4_of_many_that_use_a_code_at_once_one_is_logged_in(site: ServerSite) -> None:
    code = _code(site)
    with ThreadPoolExecutor(8) as pool:
        seen = sorted(pool.map(lambda _: _login(site, code).status_code, range(8)))
    assert seen == [200] + [401] * 7


def test_t4_a_code_lives_two_minutes(site: ServerSite) -> None:
    code = _code(site)
    with site.database.writing() as connection:
        connection.exec_driver_sql("UPDATE login_codes SET expires = expires - 121")
    assert _login(site, code).status_code == 401


def test_t3_the_cookie_is_for_this_server_only_and_no_script_reads_it(site: ServerSite) -> None:
    cookie = _login(site, _code(site)).headers["set-cookie"].lower()
    assert cookie.startswith(f"hpc_flows_{site.service.instance[:8]}=hpcf_")
    for mark in ("httponly", "samesite=strict", "path=/", "max-age=43200"):
        assert mark in cookie
    assert "secure" not in cookie


def test_under_tls_and_behind_a_prefix_the_cookie_says_so(tmp_path: Path) -> None:
    site = make_site(tmp_path, tls=True, prefix="/node/c1/4200")
    cookie = _login(site, _code(site)).headers["set-cookie"].lower()
    assert "secure" in cookie
    assert "path=/node/c1/4200/;" in cookie
    through = site.request("GET", "/node/c1/4200/api/v1/health")
    assert through.status_code == site.request("GET", "/api/v1/health").status_code == 200
    assert site.request("GET", "/node/c1/4200").headers["location"] == "/node/c1/4200/"
    site.close()


def test_a_session_does_what_its_owner_may_and_reports_nothing(
    site: ServerSite, tmp_path: Path
) -> None:
    site.report("ann", tmp_path / "home")
    cookie = _session(_login(site, _code(site)))
    assert site.ask(None, "GET", f"/flow-runs/{RUN}", headers=cookie).status_code == 200
    own = cookie | {"origin": BASE}
    assert site.ask(None, "POST", f"/flow-runs/{RUN}/cancel", headers=own).status_code == 202
    about = {"host": "h"}
    assert site.ask(None, "PUT", "/runs/new", json=about, headers=own).status_code == 403


def test_a_session_is_no_wider_than_its_code(site: ServerSite) -> None:
    cookie = _session(_login(site, _code(site, "root", scopes=["read"])))
    assert site.ask(None, "GET", "/me", headers=cookie).json()["scopes"] == ["read"]
    assert site.ask(None, "GET", "/users", headers=cookie).status_code == 403


def test_t3_a_foreign_page_cannot_use_the_session(site: ServerSite) -> None:
    cookie = _session(_login(site, _code(site)))
    foreign = cookie | {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"}
    for method, path in (("GET", "/me"), ("POST", "/tokens"), ("POST", "/logout")):
        answer = site.ask(None, method, path, headers=foreign, json={"scopes": ["read"]})
        assert answer.status_code == 403


def test_logging_out_ends_the_session_and_no_other(site: ServerSite) -> None:
    one, other = (_session(_login(site, _code(site))) for _ in range(2))
    answer = site.ask(None, "POST", "/logout", headers=one)
    assert answer.status_code == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert site.ask(None, "GET", "/me", headers=one).status_code == 401
    assert site.ask(None, "GET", "/me", headers=other).status_code == 200


def test_sessions_are_listed_and_can_be_revoked(site: ServerSite) -> None:
    cookie = _session(_login(site, _code(site)))
    listed = site.ask("ann", "GET", "/tokens").json()["items"]
    assert {each["user"] for each in listed} == {"ann"}
    session = next(each["id"] for each in listed if each["kind"] == "session")
    assert site.ask("ben", "DELETE", f"/tokens/{session}").status_code == 404
    assert site.ask("ann", "DELETE", f"/tokens/{session}").status_code == 204
    assert site.ask(None, "GET", "/me", headers=cookie).status_code == 401


def test_the_use_of_a_token_is_noted(site: ServerSite) -> None:
    before = time.time()
    site.ask("ben", "GET", "/me")
    (row,) = site.ask("ben", "GET", "/tokens").json()["items"]
    assert before - 1 <= row["last_used"] <= time.time() + 1


def _hello(site: ServerSite, token_id: str, nonce: str = "n" * 32) -> dict[str, str]:
    answer = site.ask(None, "POST", "/hello", json={"token_id": token_id, "nonce": nonce})
    assert answer.status_code == 200
    told: dict[str, str] = answer.json()
    return told


def test_t11_the_server_proves_that_it_knows_a_tokens_hash(site: ServerSite) -> None:
    text = site.tokens["ann"]
    told = _hello(site, text[5:17])
    message = b"hpc-flows hello\0" + b"n" * 32 + told["instance"].encode() + told["epoch"].encode()
    key = hashlib.sha256(text.encode()).digest()
    assert told["proof"] == hmac.new(key, message, "sha256").hexdigest()
    check_proof(text, "n" * 32, told, "here")


def test_t11_what_is_no_token_gets_a_proof_that_teaches_nothing(site: ServerSite) -> None:
    first, second = _hello(site, "0" * 12), _hello(site, "0" * 12)
    assert set(first) == set(_hello(site, site.tokens["ann"][5:17]))
    assert first["proof"] != second["proof"]
    assert len(first["proof"]) == 64


def test_t11_a_nonce_must_be_one(site: ServerSite) -> None:
    short = site.ask(None, "POST", "/hello", json={"token_id": "0" * 12, "nonce": "n"})
    assert short.status_code == 422
    odd = rb'{"token_id": "\ud800", "nonce": "\ud800aaaaaaaaaaaaaaaaaaaa"}'
    kind = {"content-type": "application/json"}
    assert site.ask(None, "POST", "/hello", content=odd, headers=kind).status_code in {200, 422}


def test_t5_the_database_keeps_hashes_only(site: ServerSite) -> None:
    code, unused = _code(site), _code(site)
    cookie = _session(_login(site, code))["cookie"].partition("=")[2]
    site.close()
    kept = b"".join(path.read_bytes() for path in site.home.iterdir() if "server.db" in path.name)
    for secret in (*site.tokens.values(), code, unused, cookie):
        assert secret.encode() not in kept
        assert secret[18:].encode() not in kept
    with sqlite3.connect(site.home / "server.db") as plain:
        rows = dict(plain.execute("SELECT id, hash FROM tokens"))
    plain.close()
    text = site.tokens["ann"]
    assert rows[text[5:17]] == hashlib.sha256(text.encode()).digest()


def test_t5_no_token_code_or_canary_is_ever_logged(
    site: ServerSite,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(0)
    canary = "canary-7f3c2a10d5"
    code = _code(site)
    cookie = _session(_login(site, code))
    _login(site, canary)
    site.ask(None, "GET", "/me", headers={"authorization": f"Bearer {canary}"})
    site.ask("ann", "PUT", "/variables/v", json={"value": canary})

    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("hpc_flows.server.routes.flow_runs.overview.dashboard", fail)
    assert site.ask(None, "GET", "/dashboard", headers=cookie).status_code == 500
    assert "unforeseen" in caplog.text
    for secret in (*site.tokens.values(), code, canary, cookie["cookie"]):
        assert secret not in caplog.text


def test_t5_a_listed_token_shows_nothing_that_opens(site: ServerSite) -> None:
    made = site.ask("ann", "POST", "/tokens", json={"name": "x", "scopes": ["read"]}).json()
    text = site.ask("ann", "GET", "/tokens").text
    assert made["token"] not in text
    assert tokens.hash_of(made["token"]).hex() not in text
    assert "hash" not in text


def test_a_token_has_256_bits_of_chance_and_its_stated_form() -> None:
    made = [tokens.new_token() for _ in range(100)]
    assert len({each.text[18:] for each in made}) == 100
    for each in made:
        assert tokens.id_in(each.text) == each.id
        assert len(each.text) == 4 + 1 + 12 + 1 + 43
        assert tokens.fits(each.text, each.hash)
    for odd in ("", "hpcf_", made[0].text + "x", made[0].text.upper(), "hpcf_" + "g" * 56):
        assert tokens.id_in(odd) is None


def test_a_token_expires_by_the_clock(site: ServerSite, monkeypatch: pytest.MonkeyPatch) -> None:
    then = time.time() + 100
    site.tokens["short"] = site.token("ann", expires=then)
    assert site.ask("short", "GET", "/me").status_code == 200
    monkeypatch.setattr(grants, "time", lambda: then + 1)
    assert site.ask("short", "GET", "/me").status_code == 401
    bad = {"scopes": ["read"], "expires": past()}
    assert site.ask("ann", "POST", "/tokens", json=bad).status_code == 422


def test_old_codes_are_swept(site: ServerSite) -> None:
    _code(site)
    with site.database.writing() as connection:
        connection.exec_driver_sql("UPDATE login_codes SET expires = 1")
        grants.make_code(connection, site.users["ann"], ["read"])
        left = connection.exec_driver_sql("SELECT count(*) FROM login_codes").scalar()
    assert left == 1


def test_an_admin_makes_users_and_tokens_for_them(site: ServerSite) -> None:
    assert site.ask("root", "POST", "/users", json={"name": "eve"}).status_code == 201
    assert site.ask("root", "POST", "/users", json={"name": "eve"}).status_code == 409
    wanted = {"scopes": ["read"], "user": "eve", "name": "first"}
    site.tokens["eve"] = site.ask("root", "POST", "/tokens", json=wanted).json()["token"]
    me = site.ask("eve", "GET", "/me").json()
    assert (me["user"], me["admin"], me["scopes"], me["projects"]) == ("eve", False, ["read"], [])
    names = [each["name"] for each in site.ask("root", "GET", "/users").json()["items"]]
    assert names == ["ann", "ben", "cleo", "dora", "eve", "root"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "<b>", "x" * 101, "-x", "a\nb", "é"])
def test_t7_names_of_users_and_projects_are_plain_words(site: ServerSite, name: str) -> None:
    for path in ("/users", "/projects"):
        answer = site.ask("root", "POST", path, json={"name": name})
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
