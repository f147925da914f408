"""What is reported may be nonsense in a sound event: the run can be looked at all the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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


def told(odd: dict[str, float]) -> Story:
    """Return the story of one task in one job that ran for an hour, in two hours."""
    at = dict(zip(MOMENTS, (0, 1, 2, 3, 10, 3610, 4000, 7200), strict=True)) | odd
    story = Story()
    story.tell(at["begun"], "flow-run", id="run-1", name="merry-fox", flow="cv", parameters={})
    story.state("run-1", "RUNNING", at["begun"])
    story.task("t", wall=at["made"])
    story.tell(at["intended"], "job-intent", token="j", cluster="mock", scheduler="slurm",
               task_runs=["t"], array=None)  # fmt: skip
    story.tell(at["submitted"], "job-submitted", token="j", job="90", seconds=0.1)
    story.state("t", "RUNNING", at["started"], writer="j-0-0")
    story.state("t", "FAILED", at["ended"], writer="j-0-0")
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
