"""Every route of the API denies: without a token, without the scope, to others, to other runs.

The table says for each route which scope it needs. What is compared with it is the application's
own router, so that a route that is not in the table fails the test, also one that is not described,
and none is added without a thought (threat rows T2, T12, T15). What strangers get of rows that are
there is in test_server_strangers.py.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from server_site import API, RUN, TASK_RUN, TOKEN, ServerSite, make_site, share
from server_ways import open_ways, ways_into
from starlette.routing import Route

from hpc_flows.server.access.guard import JOURNAL
from hpc_flows.server.access.principals import Reader  # noqa: TC001 - FastAPI reads annotations
from hpc_flows.server.access.tokens import SCOPES
from hpc_flows.server.app import described, make_app
from hpc_flows.server.routes.guarded import router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from starlette.requests import Request
    from starlette.responses import Response


class Rule(NamedTuple):
    """What a route needs.

    Attributes:
        scope: the scope; None for any token, `public` for none at all.
        to_others: what somebody gets who may not see the run: a status, or `own` where the
            answer is about nobody else.
        body: a body that is right.
    """

    scope: str | None
    to_others: int | str = 404
    body: Any = None


REPORTED: dict[str, Rule] = {
    "PUT /runs/{run}": Rule("report", 404, {"host": "login1", "created": 1.0}),
    "POST /runs/{run}/events": Rule("report", 404, b""),
    "POST /runs/counts": Rule("report", "own", {"runs": {}}),
    "PUT /runs/{run}/attachments/{kind}/{key}": Rule("report", 404, "text"),
    "POST /relays/{relay}/heartbeat": Rule("report", "own", {"mode": "driver", "host": "login1"}),
    "POST /runs/{run}/commands/{command}": Rule("report", 404, {"status": "delivered"}),
}
READ: dict[str, Rule] = {
    "GET /dashboard": Rule("read", "own"),
    "GET /tags": Rule("read", "own"),
    "GET /flow-runs": Rule("read", "own"),
    "GET /flow-runs/scatter": Rule("read", "own"),
    "GET /flow-runs/{id}": Rule("read"),
    "GET /flow-runs/{id}/counts": Rule("read"),
    "GET /flow-runs/{id}/timeline": Rule("read"),
    "GET /flow-runs/{id}/graph": Rule("read"),
    "GET /flow-runs/{id}/usage": Rule("read"),
    "GET /flow-runs/{id}/export": Rule("read"),
    "GET /commands/{id}": Rule("read"),
    "GET /task-runs": Rule("read", "own"),
    "GET /task-runs/{id}": Rule("read"),
    "GET /task-runs/{id}/output": Rule("read"),
    "GET /logs": Rule("read", "own"),
    "GET /jobs": Rule("read", "own"),
    "GET /jobs/{run}/{token}": Rule("read"),
    "GET /clusters": Rule("read", "own"),
    "GET /artifacts": Rule("read", "own"),
    "GET /artifacts/{id}": Rule("read"),
    "GET /events": Rule("read", "own"),
    "GET /variables": Rule("read", "own"),
    "GET /stream": Rule("read", "own"),
    "GET /projects": Rule("read", "own"),
    "GET /tokens": Rule("read", "own"),
}
CONTROLLED: dict[str, Rule] = {
    "DELETE /flow-runs/{id}": Rule("control"),
    "POST /flow-runs/{id}/{action}": Rule("control"),
    "PUT /flow-runs/{id}/project": Rule("control", 404, {"project": None}),
    "PUT /variables/{name}": Rule("control", "own", {"value": 1}),
    "DELETE /variables/{name}": Rule("control"),
}
ADMINISTERED: dict[str, Rule] = {
    "GET /users": Rule("admin", 403),
    "POST /users": Rule("admin", 403, {"name": "eve"}),
    "DELETE /users/{user}": Rule("admin", 403),
    "POST /projects": Rule("admin", 403, {"name": "new"}),
    "PUT /projects/{project}/members/{user}": Rule("admin", 403, {"role": "read"}),
    "DELETE /projects/{project}/members/{user}": Rule("admin", 403),
}
ANYBODY: dict[str, Rule] = {
    "GET /me": Rule(None, "own"),
    "GET /openapi.json": Rule(None, "own"),
    "POST /tokens": Rule(None, 403, {"scopes": ["read"], "user": "ann"}),
    "DELETE /tokens/{id}": Rule(None),
    "POST /login-codes": Rule(None, "own"),
    "POST /logout": Rule(None, "own"),
}
PUBLIC: dict[str, Rule] = {
    "GET /health": Rule("public", "own"),
    "POST /hello": Rule("public", "own", {"token_id": "0" * 12, "nonce": "n" * 16}),
    "POST /login": Rule("public", "own", {"code": "x"}),
}
TABLE = {**REPORTED, **READ, **CONTROLLED, **ADMINISTERED, **ANYBODY}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    """Return a server for tests that are refused everything, so that nothing changes."""
    folder = tmp_path_factory.mktemp("server")
    made = make_site(folder)
    made.report("ann", folder / "home")
    yield made
    made.close()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[ServerSite]:
    """Return a server that the test may change."""
    made = make_site(tmp_path)
    made.report("ann", tmp_path / "home")
    yield made
    made.close()


def _names(site: ServerSite, path: str) -> dict[str, str]:
    """Return what stands for the words in braces: things of Ann's."""
    subject = path.split("/")[1]
    ids = {"task-runs": TASK_RUN, "tokens": "0" * 12, "commands": "0" * 32, "artifacts": "a1"}
    return {
        "run": RUN,
        "id": ids.get(subject, RUN),
        "token": TOKEN,
        "kind": "output",
        "key": TASK_RUN,
        "relay": "relay-1",
        "command": "c1",
        "action": "cancel",
        "name": "threshold",
        "user": "cleo",
        "project": "lab",
    }


def body_of(route: str, **headers: str) -> dict[str, Any]:
    """Return what a request of the route carries, as httpx takes it, with more headers."""
    body = {**TABLE, **PUBLIC}[route].body
    if body is None or isinstance(body, dict):
        return {"json": body, "headers": headers} if body else {"headers": headers}
    kind = JOURNAL if isinstance(body, bytes) else "text/plain"
    return {"content": body, "headers": {**headers, "content-type": kind}}


def _ask(site: ServerSite, who: str | None, route: str, **headers: str) -> httpx.Response:
    method, _, path = route.partition(" ")
    return site.ask(who, method, path.format(**_names(site, path)), **body_of(route, **headers))


def _routes(app: FastAPI) -> set[str]:
    return {
        f"{method} {way.path.removeprefix(API)}" for way in ways_into(app) for method in way.methods
    }


def test_the_table_has_every_route_and_no_other(site: ServerSite) -> None:
    assert _routes(site.app) == {*TABLE, *PUBLIC}


def test_what_is_described_is_what_is_there(site: ServerSite) -> None:
    told = {
        f"{method.upper()} {path.removeprefix(API)}"
        for path, methods in site.app.openapi()["paths"].items()
        for method in methods
    }
    assert told == _routes(site.app)


def test_every_way_in_asks_who_is_there(site: ServerSite) -> None:
    assert open_ways(site.app) == set()


def _secrets() -> dict[str, str]:
    return {}


async def _socket(socket: WebSocket) -> None:
    await socket.accept()


async def _plainly(_: Request) -> Response:
    raise NotImplementedError


def test_a_way_in_that_is_added_beside_the_guard_is_noticed(site: ServerSite) -> None:
    """Whichever way it is added, described or not: the tests above would fail of it."""
    app = make_app(site.database, site.service.options)
    app.get(f"{API}/by-fastapi")(_secrets)
    app.get(f"{API}/not-described", include_in_schema=False)(_secrets)
    beside = APIRouter()
    beside.post("/in-a-router")(_secrets)
    app.include_router(beside, prefix=API)
    app.router.routes.insert(0, Route("/by-starlette", _plainly))
    app.websocket(f"{API}/websocket")(_socket)
    app.mount("/whole", FastAPI(openapi_url=None, docs_url=None, redoc_url=None))
    inner = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    inner.get("/inside")(_secrets)
    app.mount("/mounted", inner)
    assert open_ways(app) == {
        *(f"{API}/by-fastapi", f"{API}/not-described", f"{API}/in-a-router"),
        *("/by-starlette", f"{API}/websocket", "/whole", "/mounted/inside"),
    }


def test_a_guarded_route_that_is_not_in_the_table_is_noticed(site: ServerSite) -> None:
    app = make_app(site.database, site.service.options)
    more = router()

    @more.get("/secrets", include_in_schema=False)
    def secrets(who: Reader) -> dict[str, str]:
        return {}

    app.include_router(more, prefix=API)
    assert _routes(app) - {*TABLE, *PUBLIC} == {"GET /secrets"}
    assert open_ways(app) == set()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "PROPFIND"])
def test_t2_a_method_that_no_route_has_gives_nothing_to_anybody(
    site: ServerSite, method: str
) -> None:
    """Neither an answer to HEAD or OPTIONS, nor a word on whether the thing is there."""
    every = {**TABLE, **PUBLIC}
    assert not [route for route in every if route.startswith(f"{method} ")]
    for path in sorted({route.partition(" ")[2] for route in every}):
        for who in (None, "root"):
            answer = site.ask(who, method, path.format(**_names(site, path)))
            assert answer.status_code in {404, 405}, (who, path)
            assert answer.content == b"" or set(answer.json()) == {"error", "message"}
            assert "ann" not in answer.text


def test_the_description_says_which_scope_a_route_needs(site: ServerSite) -> None:
    words = {None: "any", "public": "none"}
    paths = described()["paths"]
    for route, rule in {**TABLE, **PUBLIC}.items():
        method, _, path = route.partition(" ")
        told = paths[API + path][method.lower()]["x-scope"]
        assert told == words.get(rule.scope, rule.scope), route


def test_a_route_without_a_rule_cannot_be_made() -> None:
    with pytest.raises(RuntimeError, match="must say who may use it"):

        @router().get("/secrets")
        def secrets() -> dict[str, str]:
            return {}


@pytest.mark.parametrize("route", TABLE)
def test_t2_no_route_answers_without_a_token(site: ServerSite, route: str) -> None:
    answer = _ask(site, None, route)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", TABLE)
def test_t2_no_route_takes_a_token_that_is_made_up_or_past_or_revoked(
    site: ServerSite, route: str
) -> None:
    made_up = "hpcf_" + "0" * 12 + "_" + "x" * 43
    past = site.token("ann", expires=1.0)
    revoked = site.token("ann")
    assert site.ask("ann", "DELETE", f"/tokens/{revoked[5:17]}").status_code == 204
    other_secret = site.tokens["ann"][:18] + "x" * 43
    for text in (made_up, past, revoked, other_secret, "nonsense", ""):
        answer = _ask(site, None, route, authorization=f"Bearer {text}")
        assert answer.status_code == 401, text


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        (route, scope)
        for (route, rule), scope in itertools.product(TABLE.items(), SCOPES)
        if rule.scope not in {None, scope}
    ],
)
def test_t2_no_route_takes_a_token_without_its_scope(
    site: ServerSite, route: str, scope: str
) -> None:
    site.tokens["narrow"] = site.token("root", scope)
    answer = _ask(site, "narrow", route)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "route", [route for route, rule in TABLE.items() if rule.to_others != "own"]
)
def test_t15_no_route_gives_or_changes_what_is_somebody_elses(site: ServerSite, route: str) -> None:
    assert _ask(site, "ben", route).status_code == TABLE[route].to_others
    seen = site.ask("ann", "GET", f"/flow-runs/{RUN}").json()
    assert (seen["owner"], seen["total_tasks"]) == ("ann", 3)


@pytest.mark.parametrize(
    "path",
    ["/flow-runs", "/task-runs", "/jobs", "/artifacts", "/events", "/clusters", "/tags"],
)
def test_t15_lists_of_a_stranger_have_nothing_of_others(site: ServerSite, path: str) -> None:
    assert site.ask("ben", "GET", path).json()["items"] == []


def test_t15_naming_the_run_of_another_shows_nothing_of_it(site: ServerSite) -> None:
    for path in ("/task-runs", "/logs", "/jobs", "/artifacts", "/events"):
        for word in ("run", "flow_run"):
            answer = site.ask("ben", "GET", path, params={word: RUN})
            assert answer.status_code in {404, 422} or answer.json()["items"] == [], path
    assert site.ask("ben", "GET", "/dashboard").json()["states"] == {}
    assert site.ask("ben", "GET", "/flow-runs/scatter").json()["points"] == []
    assert site.ask("ben", "GET", "/stream", params={"run": RUN}).status_code == 404


def test_t15_an_admin_sees_all_and_only_with_a_token_that_says_so(site: ServerSite) -> None:
    site.tokens["reading root"] = site.token("root", "read")
    assert site.ask("root", "GET", f"/flow-runs/{RUN}").status_code == 200
    assert site.ask("reading root", "GET", f"/flow-runs/{RUN}").status_code == 404


def test_t15_members_see_a_shared_run_and_change_it_as_their_role_says(
    own_site: ServerSite,
) -> None:
    share(own_site)
    for who, seen, changed in (("cleo", 200, 403), ("dora", 200, 202), ("ben", 404, 404)):
        assert own_site.ask(who, "GET", f"/flow-runs/{RUN}").status_code == seen
        assert own_site.ask(who, "POST", f"/flow-runs/{RUN}/cancel", json={}).status_code == changed
    assert (
        own_site.ask("dora", "PUT", f"/flow-runs/{RUN}/project", json={"project": None}).status_code
        == 403
    )
    assert own_site.send("dora", RUN, b"").status_code == 404


def test_t15_who_leaves_a_project_sees_its_runs_no_more(own_site: ServerSite) -> None:
    share(own_site)
    assert own_site.ask("root", "DELETE", "/projects/lab/members/cleo").status_code == 204
    assert own_site.ask("cleo", "GET", f"/flow-runs/{RUN}").status_code == 404


@pytest.mark.parametrize("route", TABLE)
def test_t12_a_token_for_one_run_opens_nothing_else(
    site: ServerSite, route: str, home: Path
) -> None:
    site.tokens["limited"] = site.token("ann", "report", run="another-run")
    rule = TABLE[route]
    answer = _ask(site, "limited", route)
    if route in REPORTED and rule.to_others != "own":
        assert answer.status_code == 404
    elif route in {"GET /me", "GET /openapi.json", "POST /logout"} or route in REPORTED:
        assert answer.status_code < 300
    else:
        assert answer.status_code == 403


def test_t12_a_token_for_one_run_reports_that_run_and_speaks_of_no_other(
    own_site: ServerSite, home: Path
) -> None:
    own_site.tokens["limited"] = own_site.token("ann", "report", run=RUN)
    assert own_site.send("limited", RUN, b"").status_code == 200
    assert own_site.ask("limited", "GET", f"/flow-runs/{RUN}").status_code == 403
    beat = {"mode": "driver", "host": "h", "runs": ["another"]}
    assert own_site.ask("limited", "POST", "/relays/r/heartbeat", json=beat).status_code == 404
    counts = {"runs": {"another": {"driver": 1}}}
    assert own_site.ask("limited", "POST", "/runs/counts", json=counts).status_code == 404


def test_t12_a_token_for_one_run_puts_nothing_in_place_of_what_other_relays_saw(
    own_site: ServerSite, home: Path
) -> None:
    own_site.tokens["limited"] = own_site.token("ann", "report", run=RUN)
    beat = {"mode": "login", "host": "h", "runs": [RUN]}
    for who, seen in (("ann", "true"), ("limited", "made up")):
        told = {**beat, "clusters": {"afton": {"time": time.time(), "partitions": [seen]}}}
        assert own_site.ask(who, "POST", f"/relays/{who}/heartbeat", json=told).status_code == 200
    shown = {each["name"]: each for each in own_site.ask("ann", "GET", "/clusters").json()["items"]}
    assert shown["afton"]["survey"]["partitions"] == ["true"]


def test_t12_a_token_for_one_run_ends_a_week_after_the_run(own_site: ServerSite) -> None:
    own_site.tokens["limited"] = own_site.token("ann", "report", run=RUN)
    day = 86400
    for ended, status in (("NULL", 200), (f"{time.time() - 6 * day}", 200), ("1", 401)):
        with own_site.database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE runs SET ended = {ended}")  # noqa: S608 - from above
        assert own_site.send("limited", RUN, b"").status_code == status
    assert own_site.send("ann", RUN, b"").status_code == 200


def test_t2_a_token_gives_no_more_than_it_has(site: ServerSite) -> None:
    site.tokens["reader"] = site.token("ann", "read")
    for wanted in (["control"], ["read", "report"], ["admin"]):
        assert site.ask("reader", "POST", "/tokens", json={"scopes": wanted}).status_code == 403
        codes = site.ask("reader", "POST", "/login-codes", json={"scopes": wanted})
        assert codes.status_code == 403
    assert site.ask("reader", "POST", "/tokens", json={"scopes": ["read"]}).status_code == 201


def test_t2_somebody_who_is_no_admin_is_none_whatever_the_token_says(site: ServerSite) -> None:
    site.tokens["bold"] = site.token("ben", "admin", "read")
    assert site.ask("bold", "GET", "/users").status_code == 403
    assert site.ask("bold", "GET", f"/flow-runs/{RUN}").status_code == 404


def test_t2_a_closed_account_opens_nothing(own_site: ServerSite) -> None:
    assert own_site.ask("root", "DELETE", "/users/ann").status_code == 204
    assert own_site.ask("ann", "GET", "/me").status_code == 401
    assert own_site.ask("root", "DELETE", "/users/root").status_code == 409


def test_t15_a_relay_id_of_another_user_is_refused(site: ServerSite) -> None:
    beat = {"mode": "login", "host": "login1"}
    assert site.ask("ann", "POST", "/relays/r1/heartbeat", json=beat).status_code == 200
    assert site.ask("ben", "POST", "/relays/r1/heartbeat", json=beat).status_code == 404


def test_t15_a_relay_gets_the_commands_of_its_users_runs_only(own_site: ServerSite) -> None:
    given = own_site.ask(
        "ann", "POST", f"/flow-runs/{RUN}/cancel", json={"reason": "too slow"}
    ).json()
    beat = {"mode": "login", "host": "login1", "runs": [RUN]}
    assert own_site.ask("ben", "POST", "/relays/r2/heartbeat", json=beat).json()["commands"] == []
    heard = own_site.ask("ann", "POST", "/relays/r1/heartbeat", json=beat).json()["commands"]
    assert [each["id"] for each in heard] == [given["id"]]
    assert own_site.ask("ben", "GET", f"/commands/{given['id']}").status_code == 404
