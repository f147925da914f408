"""Runs, their filters and cancelling them; tokens, variables, events: what a person does there."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from browsing import NARROW, until
from playwright.sync_api import expect

if TYPE_CHECKING:
    from browsing import Browsing, FixtureSite
    from playwright.sync_api import Page

#: Done once the browser has drawn what there is to draw.
DRAWN = """() => new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"""

#: Markup in a name must be seen as text, and do nothing.
EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


def rows(page: Page) -> list[str]:
    """Return the names of the runs in the table."""
    expect(page.locator("table.runs tbody tr").first).to_be_visible()
    return page.locator("table.runs tbody .run-name a").all_inner_texts()


def stop_clock(site: FixtureSite, page: Page) -> None:
    """Keep the browser at the moment at which the server's world was made."""
    page.clock.set_fixed_time(datetime.fromtimestamp(site.world.now, UTC))


def test_filters_stand_in_the_address_and_come_back_from_it(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs")
    browser_page.get_by_role("button", name="Failed").click()
    browser_page.get_by_role("searchbox", name="Flow").fill("sweep")
    total = browser_page.locator(".page-title .aside")
    wanted = sum(
        run["state_type"] == "FAILED" and run["flow"] == "sweep" for run in fixture_site.world.runs
    )
    expect(total).to_have_text(f"{wanted} in all")
    assert "state=FAILED" in browser_page.url
    assert "flow=sweep" in browser_page.url
    browser_page.reload()
    expect(total).to_have_text(f"{wanted} in all")
    expect(browser_page.get_by_role("button", name="Failed")).to_have_attribute(
        "aria-pressed", "true"
    )
    browser_page.get_by_role("button", name="Clear").click()
    expect(total).to_have_text("1,234 in all")


def test_a_run_whose_clock_counted_nanoseconds_takes_no_other_run_off_the_page(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    odd = fixture_site.world.runs[0]
    odd["created"] = odd["started"] = 1.7e18
    fixture_site.login(browser_page, "runs")
    assert len(rows(browser_page)) > 1
    expect(browser_page.locator("table.runs tbody")).to_contain_text("1.70000e+18 s since 1970")


def test_several_states_are_asked_for_together(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs?state=FAILED&state=CRASHED")
    wanted = sum(run["state_type"] in {"FAILED", "CRASHED"} for run in fixture_site.world.runs)
    expect(browser_page.locator(".page-title .aside")).to_have_text(f"{wanted} in all")


def test_headings_sort_and_turn_the_order(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.login(browser_page, "runs")
    heading = browser_page.get_by_role("columnheader", name="Duration")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert "sort=duration" in browser_page.url


def test_pages_of_the_list_are_places_of_the_history(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs")
    first = rows(browser_page)
    browser_page.get_by_role("button", name="Next").click()
    expect(browser_page.get_by_text("51–100 of 1,234")).to_be_visible()
    assert rows(browser_page) != first
    browser_page.go_back()
    expect(browser_page.get_by_text("1–50 of 1,234")).to_be_visible()
    browser_page.keyboard.press("]")
    expect(browser_page.get_by_text("51–100 of 1,234")).to_be_visible()


def test_rows_are_walked_and_opened_with_keys(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs")
    names = rows(browser_page)
    for key in "jjkj":
        browser_page.keyboard.press(key)
    expect(browser_page.locator("tr.at .run-name a")).to_have_text(names[1])
    browser_page.keyboard.press("Enter")
    expect(browser_page.locator("h1")).to_contain_text(names[1])
    assert "#/flow-runs/run-" in browser_page.url


def test_many_runs_are_cancelled_with_a_reason_and_what_became_of_each_is_told(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs?state=RUNNING")
    rows(browser_page)
    for key in ("j", "x", "j", "x"):
        browser_page.keyboard.press(key)
    browser_page.get_by_role("button", name="Cancel 2…").click()
    question = browser_page.get_by_role("dialog")
    question.get_by_label("Reason").fill("wrong data")
    question.get_by_role("button", name="Cancel 2 runs").click()
    expect(browser_page.get_by_role("dialog")).to_contain_text("It is told within a second.")

    def sent() -> list[tuple[str, object]]:
        found = list(fixture_site.world.sent)
        return [(path, body) for _, path, body in found if path.endswith("cancel")]

    until(browser_page, lambda: len(sent()) >= 2)
    assert len({path for path, _ in sent()}) == 2
    assert [body for _, body in sent()] == [{"reason": "wrong data"}] * 2


def test_runs_that_ended_cannot_be_cancelled(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.login(browser_page, "runs?state=COMPLETED")
    rows(browser_page)
    browser_page.keyboard.press("j")
    browser_page.keyboard.press("x")
    expect(browser_page.get_by_role("button", name="Cancel 0…")).to_be_disabled()


def test_without_the_right_to_control_nothing_can_be_cancelled(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.world.scopes = ["read"]
    fixture_site.login(browser_page, "runs?state=RUNNING")
    rows(browser_page)
    browser_page.keyboard.press("j")
    browser_page.keyboard.press("x")
    expect(browser_page.get_by_role("button", name="Cancel 1…")).to_be_disabled()


def test_a_range_drawn_in_the_chart_becomes_a_filter(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs")
    rows(browser_page)
    over = browser_page.locator(".scatter .u-over")
    box = over.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    browser_page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    browser_page.mouse.down()
    browser_page.mouse.move(box["x"] + box["width"] * 0.9, middle, steps=5)
    browser_page.mouse.up()
    expect(browser_page.locator(".page-title .aside")).not_to_have_text("1,234 in all")
    assert "since=" in browser_page.url
    assert "until=" in browser_page.url
    browser_page.go_back()
    expect(browser_page.locator(".page-title .aside")).to_have_text("1,234 in all")


def test_a_point_of_the_chart_tells_its_run_and_leads_to_it(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    completed = [run for run in fixture_site.world.runs if run["state_type"] == "COMPLETED"]
    lonely = completed[:2]
    lonely[1]["started"] = lonely[0]["started"] - 36_000
    fixture_site.world.runs = lonely
    fixture_site.login(browser_page, "runs")
    rows(browser_page)
    box = browser_page.locator(".scatter .u-over").bounding_box()
    assert box is not None
    tip = browser_page.locator(".scatter .tip")
    for step in range(0, int(box["height"]), 6):
        browser_page.mouse.move(box["x"] + box["width"] * 1.012 / 1.024, box["y"] + step)
        browser_page.evaluate(DRAWN)
        if tip.count():
            break
    expect(tip).to_contain_text(lonely[0]["name"])
    browser_page.mouse.down()
    browser_page.mouse.up()
    expect(browser_page.locator("h1")).to_contain_text(lonely[0]["name"])


def test_a_run_that_is_not_heard_is_said_to_be_silent(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    silent = fixture_site.world.runs[2]
    stop_clock(fixture_site, browser_page)
    fixture_site.login(browser_page, "runs")
    row = browser_page.locator("tr").filter(
        has=browser_page.get_by_text(silent["name"], exact=True)
    )
    expect(row).to_contain_text("silent for 6 min")


def test_a_run_that_only_just_began_is_not_called_unheard(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    young, old = fixture_site.world.runs[:2]
    young.update(name="run-that-began", heard=None, created=time.time())
    old.update(name="run-of-before", heard=None)
    fixture_site.login(browser_page, "runs?state=RUNNING")
    row = browser_page.locator("tr")
    expect(row.filter(has_text="run-of-before")).to_contain_text("never heard")
    expect(row.filter(has_text="run-that-began")).not_to_contain_text("never heard")


@pytest.mark.parametrize("width", [1440, 1280, 1100, 760])
def test_a_long_name_of_a_flow_leaves_the_names_of_its_runs(
    fixture_site: FixtureSite, browsing: Browsing, width: int
) -> None:
    for run in fixture_site.world.runs:
        run |= {
            "flow": "relaxation of all structures of the third campaign " * 3,
            "name": "modest-bobcat",
        }
    page = browsing.page((width, 800))
    fixture_site.login(page, "runs")
    rows(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    links = page.locator(".run-name > a")
    assert (
        links.evaluate_all("all => all.filter(a => a.scrollWidth > a.clientWidth + 1).length") == 0
    )
    lines = "all => new Set(all.map(time => time.getClientRects().length)).size"
    assert page.locator("td time").evaluate_all(lines) == 1


def test_markup_in_names_is_text(fixture_site: FixtureSite, browser_page: Page) -> None:
    run = fixture_site.world.runs[0]
    run.update(name=EVIL, flow=EVIL, tags=[EVIL], owner=EVIL, clusters=[EVIL], state_name=EVIL)
    fixture_site.world.tokens[0]["name"] = EVIL
    fixture_site.login(browser_page)
    for place in ("", "runs", "settings"):
        browser_page.goto(f"{fixture_site.url}/#/{place}")
        expect(browser_page.get_by_text(EVIL, exact=True).first).to_be_visible()
    assert browser_page.title() == "Settings · hpc_flows"
    assert browser_page.locator("main img").count() == 0


def test_a_new_token_is_shown_once_and_can_be_revoked(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "settings")
    browser_page.get_by_role("button", name="New token…").click()
    form = browser_page.get_by_role("dialog", name="New token")
    form.get_by_label("Name").fill("afton")
    form.get_by_label("read: see runs").uncheck()
    form.get_by_role("button", name="Make it").click()
    shown = browser_page.get_by_role("dialog", name="The new token")
    expect(shown).to_contain_text("hpcf_0123456789ab_")
    shown.get_by_role("button", name="I have it").click()
    expect(browser_page.locator("body")).not_to_contain_text("hpcf_0123456789ab_")
    _, _, body = fixture_site.world.sent[-1]
    assert (body["name"], body["scopes"]) == ("afton", ["report"])
    row = browser_page.get_by_role("row").filter(has_text="afton")
    row.get_by_role("button", name="Revoke").click()
    browser_page.get_by_role("button", name="Revoke it").click()
    expect(row).to_have_count(0)
    assert ("DELETE", "tokens/0123456789ab", {}) in fixture_site.world.sent


def test_only_admins_see_users_and_projects(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.world.scopes = ["read", "control"]
    fixture_site.login(browser_page, "settings")
    expect(browser_page.get_by_role("heading", name="Tokens and logged-in")).to_be_visible()
    expect(browser_page.get_by_role("heading", name="Users")).to_have_count(0)
    assert not [each for each in fixture_site.world.asked if each.startswith("GET users")]


def test_a_variable_is_made_from_json_or_from_a_plain_text(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "variables")
    for name, value in (("limit", "[1, 2]"), ("greeting", "good day")):
        browser_page.get_by_role("button", name="New variable").click()
        form = browser_page.get_by_role("dialog", name="New variable")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Value").fill(value)
        form.get_by_role("button", name="Make it").click()
        expect(form).to_have_count(0)
    sent = {path: body for method, path, body in fixture_site.world.sent if method == "PUT"}
    assert sent["variables/limit"] == {"value": [1, 2], "tags": []}
    assert sent["variables/greeting"] == {"value": "good day", "tags": []}
    expect(browser_page.get_by_role("row").filter(has_text="greeting")).to_be_visible()


def test_a_refused_change_is_told_where_it_was_asked_for(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("503")
    page = browsing.page()
    fixture_site.login(page, "variables")
    page.get_by_role("row").filter(has_text="bucket").get_by_role("button", name="Delete").click()
    fixture_site.world.down = True
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("dialog")).to_contain_text("The server is being restarted.")
    fixture_site.world.down = False


def test_why_jobs_wait_stands_in_words_and_an_old_look_is_called_old(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    stop_clock(fixture_site, browser_page)
    fixture_site.world.now -= 3600
    fixture_site.login(browser_page, "clusters")
    afton = browser_page.locator("section.panel").filter(has_text="afton")
    expect(afton).to_contain_text("you use all the CPUs that your QOS allows")
    expect(afton).to_contain_text("as of 1 h 00 min ago: it may be otherwise now")
    rivanna = browser_page.locator("section.panel").filter(has_text="rivanna")
    expect(rivanna).to_contain_text("no relay has looked at it yet")


def test_an_events_payload_opens_in_its_place(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "events")
    event = browser_page.locator("li.event").nth(2)
    event.locator("summary").click()
    expect(event.locator("pre")).to_contain_text('"bytes": 2000')


@pytest.mark.parametrize("place", ["runs", "events", "artifacts"])
def test_filters_work_on_a_narrow_page(
    fixture_site: FixtureSite, browsing: Browsing, place: str
) -> None:
    page = browsing.page(NARROW)
    fixture_site.login(page, place)
    page.get_by_role("searchbox").first.fill("zzzz")
    expect(page).to_have_url(re.compile("=zzzz"))
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
