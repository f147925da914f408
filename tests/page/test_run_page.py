"""The page of a run in a real browser, on a real server: what a person sees and can do there."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from browsing import NARROW
from made_run import BEGIN, Lines, about
from playwright.sync_api import expect
from run_flows import BACKWARDS, LONG, MARKUP
from run_sites import environment, run_everything, send_made, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browsing import Browsing, Site
    from playwright.sync_api import Page

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

#: Elements that the page of a run may have, whatever the number of its task runs.
MOST_ELEMENTS = 2500
MANY = 100_000
TABS = ("tasks", "timeline", "graph", "table", "logs", "jobs", "artifacts", "details", "subflows")


class Looked(NamedTuple):
    """A server with a run of everything, and one with a hundred thousand task runs."""

    site: Site
    run: str
    many: str


@pytest.fixture(scope="module")
def looked(built_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    folder = tmp_path_factory.mktemp("run-page")
    ran = run_everything(folder / "flows")
    with started(folder / "server") as site:
        run = site.take(ran)
        _attach(site, run)
        send_made(site, "many", MANY)
        yield Looked(site, run, "many")


def _attach(site: Site, run: str) -> None:
    """Send what relays send beside the journal: a job's script, and the end of its output."""
    (job,) = site.call("GET", f"jobs?run={run}")["items"]
    script = f"runs/{run}/attachments/script/{job['token']}"
    site.call("PUT", script, b"#!/bin/bash\nexec true\n", Content_Type="text/plain")
    for task in site.call("GET", f"task-runs?run={run}&task=train")["items"]:
        output = f"runs/{run}/attachments/output/{task['id']}"
        text = f"\x1b[1mthe last line\x1b[0m {MARKUP}\n".encode()
        site.call("PUT", output, text, Content_Type="text/plain")


def _opened(looked: Looked, page: Page, place: str) -> Page:
    looked.site.login(page, place)
    page.wait_for_selector("#tab-panel")
    return page


def _elements(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def _task_run(looked: Looked, name: str) -> str:
    found = looked.site.call("GET", f"task-runs?run={looked.run}&limit=100")["items"]
    return str(next(task["id"] for task in found if task["task"] == name))


@pytest.mark.parametrize("size", [(1440, 900), NARROW])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_shows_without_complaint_and_without_scrolling_sideways(
    looked: Looked, browsing: Browsing, size: tuple[int, int], theme: str
) -> None:
    page = _opened(looked, browsing.page(size, theme), f"flow-runs/{looked.run}")
    for tab in TABS:
        page.goto(f"{looked.site.url}/#/flow-runs/{looked.run}?tab={tab}")
        expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#tab-panel .loading")).to_have_count(0)
        expect(page.locator("#tab-panel .notice.error")).to_have_count(0)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, tab
    assert browsing.hosts == {looked.site.url.split("/")[2]}


def test_the_head_says_where_a_run_stands_and_how_to_ask_in_a_terminal(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}")
    expect(page.locator(".run-head h1")).to_have_text("everything")
    expect(page.locator(".run-title .state")).to_have_text("Completed")
    expect(page.locator(".run-progress")).to_contain_text("14 of 14 ended")
    expect(page.locator(".facts")).to_contain_text("mock")
    expect(page.locator(".facts code")).to_have_text(f"hpc-flows flow-run inspect {looked.run}")
    expect(page.get_by_role("button", name="Cancel…")).to_have_count(0)  # it has ended


def test_what_failed_stands_first_and_counts_lead_to_the_task_runs(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}")
    failed = page.locator(".failures li")
    expect(failed).to_have_count(1)
    expect(failed).to_contain_text("no result for 2")
    page.locator(".counts .row", has_text="fail_at_two").locator(".chip", has_text="Failed").click()
    expect(page).to_have_url(re.compile("tab=table.*task=fail_at_two.*state=Failed"))
    expect(page.locator(".task-runs .virtual")).to_have_count(1)
    page.locator(".task-runs .virtual a").click()
    expect(page.locator(".task-panel .attempts li")).to_have_count(2)
    expect(page.locator(".task-panel .message").first).to_contain_text("no result for 2")


def test_names_and_texts_of_others_are_text_and_nothing_else(
    looked: Looked, browsing: Browsing
) -> None:
    page = browsing.page()
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    _opened(looked, page, f"flow-runs/{looked.run}?tab=table&task=named")
    names = page.locator(".task-runs .virtual .given")
    expect(names).to_have_count(3)
    texts = names.all_inner_texts()
    assert MARKUP in texts
    assert any(text.endswith(BACKWARDS[1:]) for text in texts)
    # What turns the direction of writing turns it within its name only.
    assert set(names.evaluate_all("nodes => nodes.map(node => node.tagName)")) == {"BDI"}
    assert max(map(len, texts)) < 200
    for tab in TABS:
        page.goto(f"{looked.site.url}/#/flow-runs/{looked.run}?tab={tab}")
        expect(page.locator("#tab-panel .loading")).to_have_count(0)
        assert page.locator("#page img[src=x]").count() == 0
    assert asked == []


def test_a_click_in_the_timeline_opens_the_task_run_and_its_address_can_be_sent(
    looked: Looked, browsing: Browsing
) -> None:
    page = _opened(looked, browsing.page(), f"flow-runs/{looked.run}?tab=timeline")
    chart = page.locator(".chart[data-mode=rows]")
    expect(chart).to_have_attribute("data-rows", "14")
    page.locator(".chart canvas").click(position={"x": 60, "y": 22 + 10})
    name = page.locator(".task-panel h2")
    expect(name).to_contain_text("prepare")
    there, said = page.url, name.inner_text()
    other = browsing.page()
    looked.site.login(other)
    other.goto(there)
    expect(other.locator(".task-panel h2")).to_have_text(said)
    page.keyboard.press("Escape")
    expect(page.locator(".task-panel")).to_have_count(0)


def test_the_timeline_is_walked_by_keys_and_zoomed_by_dragging(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?tab=timeline")
    page.locator(".chart").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#timeline-active")).to_contain_text("prepare")
    page.keyboard.press("Enter")
    expect(page.locator(".task-panel h2")).to_contain_text("prepare")
    page.keyboard.press("Escape")
    box = page.locator(".chart canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 60, steps=3)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=\d+.*to=\d+"))
    page.get_by_role("button", name="Whole run").click()
    expect(page).not_to_have_url(re.compile("from="))


def test_the_graph_opens_a_task_to_its_runs_by_keyboard_and_leads_to_them(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?tab=graph")
    box = page.locator(".node.tasks [role=button][aria-label^=train]")
    box.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("open=train"))
    expect(page.locator(".node.open .cell")).to_have_count(4)
    page.locator(".node.open .cell").nth(2).click()
    expect(page.locator(".task-panel h2")).to_contain_text("train")
    page.locator(".node.flow [role=button]").click()
    expect(page.locator(".trail")).to_contain_text("parent run")
    expect(page.locator(".counts")).to_contain_text("collect")


def test_a_job_shows_its_script_what_it_used_and_commands_to_copy(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?tab=jobs")
    page.locator(".jobs .twist").click()
    card = page.locator(".job-card")
    expect(card.locator(".members li")).to_have_count(4)
    expect(page.locator(".jobs .row").nth(1)).to_contain_text("4 ended")
    expect(page.locator(".usage")).to_contain_text("core-hours taken")
    expect(card.locator(".members")).to_contain_text("of 64 MiB")
    expect(card.locator(".commands")).to_contain_text("scontrol show job 1")
    expect(card.locator(".commands")).to_contain_text("seff 1")
    card.locator("summary", has_text="Script").click()
    expect(card.locator("pre")).to_contain_text("exec true")
    expect(page).to_have_url(re.compile("job="))


def test_a_task_run_shows_its_job_its_neighbours_and_what_it_asked_for(
    looked: Looked, browser_page: Page
) -> None:
    id_ = _task_run(looked, "train")
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?task-run={id_}")
    panel = page.locator(".task-panel")
    expect(panel).to_contain_text("1 CPU, 64 MiB, 5 min")
    expect(panel).to_contain_text("Depends on")
    expect(panel.locator(".job-card .commands")).to_contain_text("scontrol show job 1_")
    expect(panel.locator(".output-tail .bold")).to_have_text("the last line")
    expect(panel.locator(".output-tail")).to_contain_text(MARKUP)
    panel.locator(".links a").first.click()
    expect(panel.locator("h2")).to_contain_text("prepare")


def test_logs_are_searched_by_the_server_and_keep_the_colours_of_the_terminal(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?tab=logs")
    expect(page.locator(".log-line").first).to_be_visible()
    page.get_by_role("searchbox", name="Search in messages").fill("no result")
    expect(page).to_have_url(re.compile("search=no"))
    expect(page.locator(".log mark").first).to_have_text("no result")
    page.get_by_label("Level", exact=True).select_option("40")
    expect(page.locator(".log-line.l-error").first).to_be_visible()
    expect(page.locator(".log-line.l-info")).to_have_count(0)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download").click()
    text = saved.value.path().read_text()
    assert "no result for 2" in text
    assert "preparing" not in text


def test_artifacts_are_shown_by_their_kind_and_a_dangerous_link_is_none(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.run}?tab=artifacts")
    expect(page.locator(".artifact")).to_have_count(5)
    expect(page.locator(".markdown strong").first).to_have_text("number 7")
    expect(page.locator(".artifact progress")).to_have_attribute("value", "62.5")
    expect(page.locator(".artifact table.list")).to_contain_text(MARKUP)
    assert page.locator(".artifact img").count() == 0  # no other server is asked
    links = page.locator(".artifact a[target=_blank]")
    schemes = {link.get_attribute("href").split(":")[0] for link in links.all()}  # type: ignore[union-attr] # all have one
    assert schemes == {"https"}


def test_a_name_of_ten_thousand_letters_leaves_room_for_the_rest(
    looked: Looked, browsing: Browsing
) -> None:
    lines = Lines("long")
    looked.site.call("PUT", "runs/long", about("long"))
    about_flow = {"name": LONG, "flow": LONG, "parameters": {LONG: LONG}, "tags": [LONG]}
    run = lines.line("flow-run", BEGIN, id="long", **about_flow)
    about_run = {"name": LONG, "task": LONG, "key": "k", "upstream": [], "tags": []}
    task = lines.line("task-run", BEGIN, id="long-1", flow_run="long", **about_run)
    state = lines.state("long-1", BEGIN + 1, "FAILED", "Failed", attempt=1, message=LONG)
    _report(looked.site, "long", [run, task, state])
    page = _opened(looked, browsing.page(NARROW), "flow-runs/long")
    for tab in TABS:
        page.goto(f"{looked.site.url}/#/flow-runs/long?tab={tab}")
        expect(page.locator("#tab-panel .loading")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, tab
        tabs = page.locator(".run-tabs").bounding_box()
        assert tabs is not None
        assert tabs["y"] < 700, tab


def _living(site: Site, run: str) -> Lines:
    """Report a run that goes on, with one task run that has ended."""
    lines = Lines(run)
    about_flow = {"name": run, "flow": "living", "parameters": {}, "tags": []}
    running = {"subject": "flow", "id": run, "attempt": 1}
    site.call("PUT", f"runs/{run}", about(run))
    first = lines.line("flow-run", BEGIN, id=run, **about_flow)
    _report(
        site, run, [first, lines.line("state", BEGIN, type="RUNNING", name="Running", **running)]
    )
    _report(site, run, _steps(lines, 1))
    return lines


def _steps(lines: Lines, count: int) -> list[bytes]:
    made = []
    for _ in range(count):
        id_ = f"{lines.run}-{lines.seq}"
        about_run = {"name": f"step-{lines.seq}", "task": "step", "key": "k", "upstream": []}
        made.append(lines.line("task-run", BEGIN, id=id_, flow_run=lines.run, tags=[], **about_run))
        made.append(lines.state(id_, BEGIN + 1, "RUNNING", "Running", attempt=1))
        made.append(lines.state(id_, BEGIN + 2, "COMPLETED", "Completed", attempt=1))
    return made


def _report(site: Site, run: str, lines: list[bytes]) -> None:
    kind = "application/vnd.hpc-flows.journal"
    site.call("POST", f"runs/{run}/events", b"".join(lines), Content_Type=kind)


def test_a_run_is_seen_to_go_on_while_the_reader_keeps_their_place(
    looked: Looked, browser_page: Page
) -> None:
    lines = _living(looked.site, "living")
    _report(looked.site, "living", _steps(lines, 200))
    page = _opened(looked, browser_page, "flow-runs/living?tab=table")
    progress = page.locator(".run-progress")
    expect(progress).to_contain_text("201 of 201 ended")
    rows = page.locator(".task-runs .virtual-rows")
    expect(rows.locator(".virtual a").first).to_be_visible()
    rows.evaluate("node => { node.scrollTop = 1500 }")
    _report(looked.site, "living", _steps(lines, 30))
    expect(progress).to_contain_text("231 of 231 ended")
    expect(page.locator(".run-tools [role=status]")).to_have_text("231 task runs")
    assert rows.evaluate("node => node.scrollTop") == 1500


def test_cancelling_is_asked_for_twice_and_answered_honestly(
    looked: Looked, browser_page: Page
) -> None:
    _living(looked.site, "silent")
    page = _opened(looked, browser_page, "flow-runs/silent")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_label("Why").fill("wrong input")
    page.get_by_role("button", name="Cancel the run").click()
    outcome = page.locator(".outcome")
    expect(outcome).to_contain_text("The driver is told to cancel within a few seconds.")
    # Nobody takes it: the page does not leave that at a promise.
    expect(outcome).to_contain_text("The request waits")
    expect(outcome.locator("code")).to_have_text("hpc-flows runs cancel silent")


def test_a_subflow_that_paused_itself_is_let_go_on_from_its_page(
    looked: Looked, browser_page: Page
) -> None:
    lines = _living(looked.site, "outer")
    _report_part(looked.site, lines, "part", "PAUSED")
    page = _opened(looked, browser_page, "flow-runs/part")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".outcome")).to_contain_text("The driver is told to resume")
    expect(page.get_by_role("button", name="Cancel…")).to_have_count(0)


def _report_part(site: Site, lines: Lines, id_: str, state: str) -> None:
    """Report a subflow of a run, in a state."""
    part: dict[str, Any] = {"id": id_, "name": id_, "flow": "inner", "parent_flow_run": lines.run}
    told = {"subject": "flow", "id": id_, "type": state, "name": state.title(), "attempt": 1}
    begun = lines.line("flow-run", BEGIN, **part, parameters={}, tags=[])
    _report(site, lines.run, [begun, lines.line("state", BEGIN + lines.seq, **told)])


def test_the_page_of_a_run_tells_which_of_its_subflows_waits_for_somebody(
    looked: Looked, browser_page: Page
) -> None:
    lines = _living(looked.site, "around")
    _report_part(looked.site, lines, "held", "PAUSED")
    page = _opened(looked, browser_page, "flow-runs/around")
    waits = page.locator(".run-head > .notice")
    expect(waits).to_have_text("The subflow held is paused and waits for somebody to let it go on.")
    _report_part(looked.site, lines, "held-too", "PAUSED")
    expect(waits).to_have_text(
        "2 subflows are paused and wait for somebody, the first one is held."
    )
    waits.get_by_role("link", name="held", exact=True).click()
    expect(page.locator("h1")).to_have_text("held")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    expect(waits).to_have_count(0)
    page.go_back()
    expect(waits).to_be_visible()
    for id_ in ("held", "held-too"):
        _report_part(looked.site, lines, id_, "RUNNING")
    expect(waits).to_have_count(0)


NAPS = """
import time
from hpc_flows import flow, task

@task
def nap(number):
    time.sleep(0.2)

@flow(flow_run_name="napping")
def naps():
    for number in range(600):
        nap(number)

naps()
"""


def test_a_driver_is_seen_at_work_and_takes_a_cancellation_from_the_page(
    looked: Looked, browser_page: Page, tmp_path: Path
) -> None:
    program = tmp_path / "naps.py"
    program.write_text(NAPS)
    site = looked.site
    to_server = {"HPC_FLOWS_API_URL": site.url, "HPC_FLOWS_API_KEY": site.token}
    driver = subprocess.Popen(
        [sys.executable, str(program)],
        env=environment(tmp_path / "home", **to_server),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = _opened(looked, browser_page, f"flow-runs/{_heard_of(site, 'naps')}")
        expect(page.locator(".run-title .state")).to_have_text("Running")
        expect(page.locator(".counts")).to_contain_text(re.compile(r"nap.*\d / \d", re.DOTALL))
        expect(page.locator(".facts")).to_contain_text("just now")
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".outcome .good")).to_be_visible()
        expect(page.locator(".run-title .state")).to_have_text("Cancelled")
        assert driver.wait(150) != 0
    finally:
        driver.kill()
        driver.wait()


def _heard_of(site: Site, flow: str) -> str:
    until = time.monotonic() + 150
    while time.monotonic() < until:
        found = site.call("GET", f"flow-runs?flow={flow}")["items"]
        if found:
            return str(found[0]["id"])
        time.sleep(0.1)
    raise AssertionError(f"no run of {flow} was reported")


@pytest.mark.parametrize("tab", TABS)
def test_with_a_hundred_thousand_task_runs_the_browser_holds_what_is_in_sight(
    looked: Looked, browser_page: Page, tab: str
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.many}?tab={tab}")
    expect(page.locator(".run-progress")).to_contain_text("100,000 of 100,000 ended")
    expect(page.locator("#tab-panel .loading")).to_have_count(0)
    assert _elements(page) < MOST_ELEMENTS


def test_the_table_scrolls_sorts_and_filters_a_hundred_thousand_task_runs(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.many}?tab=table")
    rows = page.locator(".task-runs .virtual-rows")
    expect(rows.locator(".virtual a").first).to_have_text("prepare-0")
    rows.evaluate("node => { node.scrollTop = node.scrollHeight }")
    expect(rows.get_by_text("collect-24999", exact=True)).to_be_visible()
    assert _elements(page) < MOST_ELEMENTS
    page.get_by_role("button", name="Ran").click()
    expect(page).to_have_url(re.compile("sort=-duration"))
    expect(rows.locator(".virtual").first).to_contain_text("5 min 00 s")
    page.get_by_label("State").select_option("FAILED")
    expect(page.locator(".run-tools [role=status]")).to_have_text("100 task runs")


def test_the_timeline_of_very_many_shows_counts_and_leads_to_single_runs(
    looked: Looked, browser_page: Page
) -> None:
    page = _opened(looked, browser_page, f"flow-runs/{looked.many}?tab=timeline")
    expect(page.locator(".chart[data-mode=bins]")).to_have_attribute("data-rows", "4")
    begin = looked.site.call("GET", f"flow-runs/{looked.many}")["started"]
    there = f"{looked.site.url}/#/flow-runs/{looked.many}?tab=timeline&from={begin}&to={begin + 2}"
    page.goto(there)
    expect(page.locator(".chart[data-mode=rows]")).to_be_visible()
    page.locator(".chart canvas").click(position={"x": 60, "y": 22 + 10})
    expect(page.locator(".task-panel h2")).to_have_text("prepare-0")
