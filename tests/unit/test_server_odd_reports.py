"""What is reported may be nonsense in a sound event: the run can be looked at all the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from server_data import lines
from server_site import make_site
from server_stories import renamed
from test_replay import Story

from hpc_flows.server import exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server_site import ServerSite

#: Of each thing a run tells of, which moment is odd.
MOMENTS = ("begun", "made", "intended", "submitted", "started", "ended", "logged", "over")
#: A clock that counts nanoseconds, one before the first year, and what no clock has.
FAR = (1.7e18, -1e12, -1e18, 1e300, -1.7e308)
NO_TABLES = ("lots", ["cpus", 4], 4, 0.5, True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "export").mkdir()
    for name in ("export.js", "export.css"):
        (folder / "export" / name).write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "page_folder", lambda: folder)
        made = make_site(tmp_path_factory.mktemp("site"))
        yield made
        made.close()


def told(odd: dict[str, float] | None = None, resources: Any = None, details: Any = None) -> Story:
    """Return the story of one task in one job that ran for an hour, in two hours."""
    at = dict(zip(MOMENTS, (0, 1, 2, 3, 10, 3610, 4000, 7200), strict=True)) | (odd or {})
    story = Story()
    story.tell(at["begun"], "flow-run", id="run-1", name="merry-fox", flow="cv", parameters={})
    story.state("run-1", "RUNNING", at["begun"])
    story.task("t", wall=at["made"], resources=resources)
    story.tell(at["intended"], "job-intent", token="j", cluster="mock", scheduler="slurm",
               task_runs=["t"], array=None, resources=resources)  # fmt: skip
    story.tell(at["submitted"], "job-submitted", token="j", job="90", seconds=0.1)
    story.state("t", "RUNNING", at["started"], writer="j-0-0")
    story.state("t", "FAILED", at["ended"], writer="j-0-0", details=details)
    story.tell(at["logged"], "log", level="INFO", message="a line", task_run="t", flow_run="run-1")
    story.state("run-1", "FAILED", at["over"])
    return story


def report(site: ServerSite, run: str, story: Story) -> None:
    assert site.ask("ann", "PUT", f"/runs/{run}", json={}).status_code == 200
    taken = site.send("ann", run, lines(renamed(story.events, run))).json()
    assert (taken["taken"], taken["refused"]) == (len(story.events), 0)


def exported(site: ServerSite, run: str) -> str:
    answer = site.ask("ann", "GET", f"/flow-runs/{run}/export")
    assert answer.status_code == 200, answer.text
    assert "merry-fox" in answer.text
    return answer.text


def drawn(page: str) -> str:
    found = re.search(r'id="exported-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_is_exported_wherever_one_of_its_clocks_stood(site: ServerSite, moment: str) -> None:
    for number, far in enumerate(FAR):
        run = f"{moment}-{number}"
        report(site, run, told({moment: far}))
        assert not re.search("Infinity|NaN", drawn(exported(site, run)))


def test_a_run_is_exported_whose_times_are_too_far_apart_to_be_subtracted(
    site: ServerSite,
) -> None:
    story = told({"begun": -1.7e308, "made": -1.7e308, "started": 0.0, "ended": 1.7e308})
    report(site, "apart", story)
    assert not re.search("Infinity|NaN", drawn(exported(site, "apart")))


def test_an_odd_time_is_shown_as_the_number_that_was_told(site: ServerSite) -> None:
    report(site, "nanoseconds", told({"logged": 1.7e18}))
    page = exported(site, "nanoseconds")
    assert "1.7e+18 s since 1970 INFO" in page
    assert "<dt>started</dt><dd>1970-01-01 00:00:00 UTC</dd>" in page
    assert "<dt>ran</dt><dd>2 h 00 min</dd>" in page


@pytest.mark.parametrize("resources", NO_TABLES, ids=repr)
def test_resources_that_are_no_table_count_as_unknown(site: ServerSite, resources: Any) -> None:
    run = f"resources-{NO_TABLES.index(resources)}"
    report(site, run, told(resources=resources))
    taken = site.ask("ann", "GET", f"/flow-runs/{run}/usage")
    assert taken.status_code == 200, taken.text
    assert taken.json()["core_hours"] == pytest.approx(1.0)  # one core, as where nothing was told
    (job,) = site.ask("ann", "GET", f"/jobs?run={run}").json()["items"]
    assert job["resources"] is None
    assert "failed" in exported(site, run).lower()


@pytest.mark.parametrize(
    "resources",
    [{"cpus": 10**400}, {"walltime": 10**400}, {"walltime": "1 h"}, {"memory": 10**400}],
    ids=["cpus", "walltime", "text", "memory"],
)
def test_a_resource_that_is_no_number_counts_as_unknown(
    site: ServerSite, resources: dict[str, Any]
) -> None:
    run = f"resource-{resources}"[:30].replace("'", "").replace("{", "")
    report(site, run, told(resources=resources))
    taken = site.ask("ann", "GET", f"/flow-runs/{run}/usage")
    assert taken.status_code == 200, taken.text
    assert taken.json()["core_hours"] == pytest.approx(1.0)
    assert taken.json()["asked_core_hours"] == pytest.approx(1.0)
    exported(site, run)


@pytest.mark.parametrize(
    "details", [*NO_TABLES, {"elapsed": 10**400, "cpu": "much"}], ids=lambda told: repr(told)[:20]
)
def test_details_that_do_not_tell_what_an_attempt_took_leave_it_to_the_clock(
    site: ServerSite, details: Any
) -> None:
    run = f"details-{type(details).__name__}"
    report(site, run, told(details=details))
    taken = site.ask("ann", "GET", f"/flow-runs/{run}/usage")
    assert taken.status_code == 200, taken.text
    assert taken.json()["core_hours"] == pytest.approx(1.0)
    assert taken.json()["told_core_hours"] == 0
