"""Every route, asked with whatever its OpenAPI allows and forbids: no 5xx, and answers as stated.

Schemathesis makes the requests, from a fixed seed, within this process; half of them name things
that are there. Threat row T14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_site import API, BASE, RUN, TASK_RUN, TOKEN, ServerSite, make_site

from hpc_flows.server.access.guard import JOURNAL
from hpc_flows.server.app import described

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from schemathesis import Case

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: Requests of one route, half of them with the ids of things that are there.
EXAMPLES = 8

#: What is removed for real would be missing for the others.
KEPT = {"DELETE /flow-runs/{id}", "DELETE /users/{user}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    folder = tmp_path_factory.mktemp("server")
    made = make_site(folder)
    made.report("root", folder / "home")
    # A stream ends at once, so that its answer can be looked at.
    made.service.hub.close()
    yield made
    made.close()


@schemathesis.serializer(JOURNAL)
def _as_it_is(_: object, value: Any) -> Any:
    """Send what is made up for a journal as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


_SCHEMA = schemathesis.openapi.from_dict(described())
OPERATIONS = {
    f"{each.ok().method.upper()} {each.ok().path.removeprefix(API)}": each.ok()
    for each in _SCHEMA.get_all_operations()
}


def _real(route: str) -> dict[str, str]:
    subject = route.split("/")[1]
    id_ = {"task-runs": TASK_RUN, "tokens": "0" * 12}.get(subject, RUN)
    more = {"run": RUN, "id": id_, "token": TOKEN, "key": TASK_RUN, "kind": "output"}
    return more | {"user": "cleo", "project": "lab", "action": "cancel"}


def _ask(site: ServerSite, case: Case) -> httpx.Response:
    """Send a made-up request as the admin to whom all is allowed."""
    made = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
    body = made.body if made.body is not None else b""
    headers = {name: value for name, value in made.headers.items() if name != "Content-Length"}
    return site.request(
        str(made.method), str(made.url), "root", headers=_plain(headers), content=body
    )


def _plain(headers: dict[str, Any]) -> dict[str, str]:
    """Leave out headers that no HTTP client would send."""
    texts = {
        name: v.decode("latin-1") if isinstance(v, bytes) else v for name, v in headers.items()
    }
    return {n: v for n, v in texts.items() if v.isascii() and v.isprintable() and v == v.strip()}


def _try(site: ServerSite, route: str, examples: int) -> None:
    """Send made-up requests to a route, every other one with the ids of things that are there."""
    count = 0

    @seed(20261121)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[route].as_strategy())
    def look(case: Case) -> None:
        nonlocal count
        count += 1
        if count % 2 and route not in KEPT and case.path_parameters:
            known = _real(route)
            case.path_parameters.update(
                {name: known[name] for name in case.path_parameters if name in known}
            )
        case.validate_response(_ask(site, case), checks=CHECKS)

    look()
    assert count >= 1


@pytest.mark.parametrize("route", OPERATIONS)
def test_t14_no_request_makes_a_route_fail_or_answer_what_it_does_not_state(
    site: ServerSite, route: str
) -> None:
    _try(site, route, EXAMPLES)


def test_t14_nor_over_postgresql_which_takes_less(postgresql_url: str, tmp_path: Path) -> None:
    site = make_site(tmp_path, postgresql_url)
    site.report("root", tmp_path / "home")
    site.service.hub.close()
    try:
        for route in OPERATIONS:
            _try(site, route, EXAMPLES // 2)
    finally:
        site.close()
