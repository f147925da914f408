"""Places with nothing in them, places that are not there, and going about while nobody answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from browsing import NARROW
from playwright.sync_api import expect

if TYPE_CHECKING:
    from browsing import Browsing, FixtureSite
    from playwright.sync_api import Page

COMMANDS = ("hpc-flows demo", "hpc-flows run FILE.py:FLOW", "hpc-flows server import")


def test_an_empty_server_shows_three_ways_to_a_first_run(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    run = fixture_site.world.runs[0]
    fixture_site.world.runs.clear()
    fixture_site.login(browser_page)
    steps = browser_page.locator(".first-steps code")
    expect(steps).to_have_text(COMMANDS)
    browser_page.goto(f"{fixture_site.url}/#/runs")
    expect(browser_page.locator("h1")).to_have_text("Runs")
    expect(steps).to_have_text(COMMANDS)
    expect(browser_page.locator(".scatter")).to_have_count(0)  # of nothing
    fixture_site.world.runs.append(run)
    fixture_site.world.change(run)
    expect(browser_page.locator("table.runs tbody tr")).to_have_count(1)
    expect(steps).to_have_count(0)


def test_what_filters_hide_is_not_called_absent(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "events?name=no-such-event&offset=9999")
    expect(browser_page.get_by_text("There are no events like that.")).to_be_visible()
    browser_page.get_by_role("button", name="Take all filters away").click()
    expect(browser_page).to_have_url(re.compile("#/events$"))


def test_a_run_that_is_not_there_is_told_and_leads_on(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("404")
    page = browsing.page()
    fixture_site.login(page, "flow-runs/no-such-run")
    expect(page.locator("h1")).to_have_text("There is no such run here")
    expect(page).to_have_title("Not found · hpc_flows")
    page.get_by_role("main").get_by_role("link", name="runs").click()
    expect(page.locator("h1")).to_have_text("Runs")


def test_places_that_were_not_seen_before_open_while_the_server_is_away(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("503")
    page = browsing.page()
    with page.expect_response(re.compile(r"/assets/Runs-.*\.js")) as fetched:
        fixture_site.login(page)
    page.evaluate("url => import(url).then(() => null)", fetched.value.url)  # and all it imports
    fixture_site.world.down = True
    page.goto(f"{fixture_site.url}/#/runs")
    expect(page.locator("h1")).to_have_text("Runs")
    expect(page.get_by_role("alert").first).to_contain_text("does not answer")
    fixture_site.world.down = False
    expect(page.locator("table.runs tbody tr")).to_have_count(50)
    expect(page.get_by_role("alert")).to_have_count(0)


#: How far the chosen tab lies within the bar of tabs, at its left and at its right.
WITHIN = """() => {
  const [bar, tab] = ['.run-tabs', '.run-tabs [aria-selected=true]'].map(
    (at) => document.querySelector(at).getBoundingClientRect());
  return Math.min(tab.left - bar.left, bar.right - tab.right);
}"""


def test_the_chosen_tab_of_a_run_is_in_sight_in_a_narrow_window(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    page = browsing.page(NARROW)
    browsing.forgiven.append("404")  # of this run only its first page is made up
    run = fixture_site.world.runs[0]["id"]
    fixture_site.login(page, f"flow-runs/{run}?tab=subflows")
    expect(page.get_by_role("tab", name="Subflows")).to_have_attribute("aria-selected", "true")
    page.wait_for_function(f"({WITHIN})() > -1")  # parts of a pixel are none
    page.goto(f"{fixture_site.url}/#/flow-runs/{run}")
    expect(page.get_by_role("tab", name="Tasks")).to_have_attribute("aria-selected", "true")
    page.wait_for_function(f"({WITHIN})() > -1")  # parts of a pixel are none


#: What sheets make of an element of the dashboard and of one of the clusters.
LOOK = """() => ['.columns', '.chart', '.facts'].flatMap((at) => {
  const found = document.querySelector(at);
  if (found === null) return [];
  const { display, gridTemplateColumns, gap, overflow } = getComputedStyle(found);
  return [[at, display, gridTemplateColumns, gap, overflow]];
})"""


def test_the_sheet_of_a_run_changes_no_other_page(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("404")
    page = browsing.page()
    fixture_site.login(page)
    looks: list[list[object]] = []
    for place in ("flow-runs/" + fixture_site.world.runs[0]["id"], ""):
        expect(page.locator(".columns")).to_be_visible()
        expect(page.locator(".chart .u-wrap")).to_be_visible()
        looks.append(page.evaluate(LOOK))
        page.goto(f"{fixture_site.url}/#/{place}")
        expect(page.locator("h1")).not_to_have_text("Dashboard" if place else "")
        if place:
            expect(page.locator(".run-tabs")).to_be_visible()
            page.goto(f"{fixture_site.url}/#/")
    assert looks[0] == looks[1]
    assert looks[0]
