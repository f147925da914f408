"""The page's frame: logging in, places, keys, live changes, honest banners."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from browsing import NARROW, WIDE, until
from playwright.sync_api import expect

if TYPE_CHECKING:
    from browsing import Browsing, FixtureSite
    from playwright.sync_api import Page

PLACES = {"": "Dashboard", "runs": "Runs", "clusters": "Clusters", "events": "Events"}
PLACES |= {"artifacts": "Artifacts", "variables": "Variables", "settings": "Settings"}
#: Elements of a place, however many runs there are.
MOST_NODES = 2500


def at(page: Page, words: str) -> None:
    """Wait until the heading of the page says this."""
    expect(page.locator("h1")).to_have_text(words)


def go(page: Page, place: str) -> None:
    """Go to a place as by a link; keys do nothing once the login is in front of it."""
    page.evaluate("place => { location.hash = `#/${place}`; }", place)


def test_a_one_time_code_logs_in_and_leaves_the_address(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    browser_page.goto(f"{fixture_site.url}/#/login?code=one-time-code")
    at(browser_page, "Dashboard")
    assert "code" not in browser_page.url
    assert ("POST", "login", {"code": "one-time-code"}) in fixture_site.world.sent
    browser_page.go_back()
    assert "code" not in browser_page.url


def test_without_a_session_a_deep_link_asks_for_a_login_and_then_leads_on(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    page.goto(f"{fixture_site.url}/#/runs?state=FAILED")
    expect(page.locator("pre")).to_have_text("hpc-flows server login")
    page.get_by_label("Or type its code").fill("one-time-code")
    page.get_by_role("button", name="Log in").click()
    at(page, "Runs")
    assert page.url.endswith("#/runs?state=FAILED")


def test_a_used_code_is_refused_in_the_servers_own_words(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    page.goto(f"{fixture_site.url}/#/login?code=old")
    expect(page.get_by_role("alert")).to_have_text(
        "That code is not valid any more; ask for another."
    )


def test_a_session_that_ends_leads_to_the_login_and_back(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    fixture_site.login(page)
    fixture_site.world.sessions.clear()
    go(page, "runs")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    fixture_site.world.codes.add("another-code")
    page.get_by_label("Or type its code").fill("another-code")
    page.get_by_role("button", name="Log in").click()
    at(page, "Runs")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    run = fixture_site.world.runs[0]
    run["state_name"] = "Retrying"
    fixture_site.world.change(run)
    expect(page.locator("tr").filter(has_text=run["name"])).to_contain_text("Retrying")


def test_who_logs_in_again_in_one_tab_is_logged_in_in_the_others(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    fixture_site.login(page, "runs")
    fixture_site.world.sessions.clear()
    go(page, "clusters")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    other = page.context.new_page()
    fixture_site.login(other)
    page.evaluate("dispatchEvent(new Event('focus'))")  # somebody comes back to the tab
    at(page, "Clusters")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_logging_out_ends_the_session_at_the_server(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    fixture_site.login(page)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert fixture_site.world.sessions == set()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_place_scrolls_sideways_or_asks_another_host(
    fixture_site: FixtureSite, browsing: Browsing, size: tuple[int, int], theme: str
) -> None:
    page = browsing.page(size, theme)
    fixture_site.login(page)
    for place, words in PLACES.items():
        page.goto(f"{fixture_site.url}/#/{place}")
        at(page, words)
        expect(page.locator("main .loading")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], place
        assert page.evaluate("document.querySelectorAll('*').length") < MOST_NODES, place
    assert browsing.hosts == {fixture_site.url.removeprefix("http://")}


def test_keys_lead_to_places_and_are_listed(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.login(browser_page)
    for key, words in (("c", "Clusters"), ("e", "Events"), ("s", "Settings"), ("r", "Runs")):
        browser_page.keyboard.press("g")
        browser_page.keyboard.press(key)
        at(browser_page, words)
    browser_page.keyboard.press("?")
    keys = browser_page.get_by_role("dialog", name="Keys")
    expect(keys).to_contain_text("next row")
    expect(keys).to_contain_text("go to clusters")
    browser_page.keyboard.press("Escape")
    expect(keys).to_have_count(0)


def test_keys_do_nothing_while_a_person_types(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs")
    at(browser_page, "Runs")
    browser_page.keyboard.press("/")
    browser_page.keyboard.type("ge")
    at(browser_page, "Runs")
    expect(browser_page.get_by_role("searchbox", name="Name")).to_have_value("ge")


def test_the_first_tab_stop_leads_past_the_names_of_places(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page)
    browser_page.evaluate("document.activeElement.blur()")
    browser_page.keyboard.press("Tab")
    expect(browser_page.locator(".skip")).to_be_focused()
    browser_page.keyboard.press("Enter")
    expect(browser_page.locator("main")).to_be_focused()
    at(browser_page, "Dashboard")


def test_a_narrow_page_keeps_its_places_in_a_menu(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    page = browsing.page(NARROW)
    fixture_site.login(page)
    places = page.get_by_role("navigation", name="Places")
    expect(places).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    places.get_by_role("link", name="Clusters").click()
    at(page, "Clusters")
    expect(places).to_be_hidden()


def test_the_choice_of_colours_is_kept(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.login(browser_page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser_page.evaluate(ground)
    browser_page.get_by_role("button", name="Dark").click()
    dark = browser_page.evaluate(ground)
    assert dark != light
    browser_page.reload()
    at(browser_page, "Dashboard")
    assert browser_page.evaluate(ground) == dark


def test_a_change_shows_without_a_reload(fixture_site: FixtureSite, browser_page: Page) -> None:
    fixture_site.login(browser_page)
    run = fixture_site.world.runs[0]
    row = browser_page.get_by_role("row").filter(has_text=run["name"])
    expect(row).to_contain_text("Running")
    run["state_name"] = "Retrying"
    fixture_site.world.change(run)
    expect(row).to_contain_text("Retrying")


def test_a_hundred_changes_cause_few_requests(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page)
    expect(browser_page.get_by_text("Live", exact=True)).to_be_visible()
    before = len(fixture_site.world.asked)

    def asked() -> int:
        return sum("dashboard" in each for each in fixture_site.world.asked[before:])

    began = time.monotonic()
    for _ in range(100):
        fixture_site.world.change(fixture_site.world.runs[0])
        browser_page.wait_for_timeout(20)
    seconds = time.monotonic() - began
    assert asked() <= 2 + 2 * seconds  # a busy machine lets them come over a longer time
    until(browser_page, asked)


def test_without_a_stream_the_page_asks_and_says_so(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("503")
    fixture_site.world.stream = False
    page = browsing.page()
    fixture_site.login(page)
    expect(page.get_by_text("The live stream does not come through")).to_be_visible()
    run = fixture_site.world.runs[0]
    run["state_name"] = "Retrying"
    row = page.get_by_role("row").filter(has_text=run["name"])
    expect(row).to_contain_text("Retrying")
    fixture_site.world.stream = True
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("The live stream does not come through")).to_have_count(0)


def test_a_server_that_went_away_is_told_and_what_was_seen_stays(
    fixture_site: FixtureSite, browsing: Browsing
) -> None:
    browsing.forgiven.append("503")
    page = browsing.page()
    fixture_site.login(page)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    fixture_site.world.down = True
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server does not answer")
    expect(alert).to_contain_text("your runs do not need the server and go on")
    expect(
        page.get_by_role("row").filter(has_text=fixture_site.world.runs[0]["name"])
    ).to_be_visible()
    fixture_site.world.down = False
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(alert).to_have_count(0)


def test_an_address_that_leads_nowhere_says_so(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "nowhere/at-all")
    at(browser_page, "There is no such page here")
    expect(browser_page).to_have_title("Not found · hpc_flows")
    browser_page.goto(f"{fixture_site.url}/#/settings")
    at(browser_page, "Settings")
    browser_page.goto(f"{fixture_site.url}/#/nowhere")
    expect(browser_page).to_have_title("Not found · hpc_flows")


def test_the_page_works_behind_a_prefix_of_a_proxy(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.world.prefix = "/node/login1/4200"
    fixture_site.world.codes.add("one-time-code")
    browser_page.goto(f"{fixture_site.url}/node/login1/4200/#/login?code=one-time-code")
    at(browser_page, "Dashboard")
    expect(browser_page.get_by_text("Live", exact=True)).to_be_visible()
    assert re.search(r"/node/login1/4200/#/$", browser_page.url)


#: Controls without a name that a screen reader could say, as text.
NAMELESS = """[...document.querySelectorAll('a, button, input, select, textarea, summary')]
  .filter((at) => at.checkVisibility())
  .filter((at) => !(at.innerText?.trim() || at.getAttribute('aria-label') || at.labels?.length))
  .map((at) => at.outerHTML)"""


def test_every_control_has_a_name_and_every_picture_a_text(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page)
    for place, words in PLACES.items():
        browser_page.goto(f"{fixture_site.url}/#/{place}")
        at(browser_page, words)
        expect(browser_page.locator("main .loading")).to_have_count(0)
        assert browser_page.evaluate(NAMELESS) == [], place
        assert browser_page.locator("[role=img]:not([aria-label]), img:not([alt])").count() == 0
        assert browser_page.locator("main").count() == 1
        assert browser_page.locator("h1").count() == 1


#: How many changes the document has in three seconds.
CHANGES = """() => new Promise((done) => {
  let seen = 0;
  const watcher = new MutationObserver((all) => { seen += all.length; });
  watcher.observe(document.body, {subtree: true, childList: true, attributes: true,
                                  characterData: true});
  setTimeout(() => done(seen), 3000);
})"""


def test_a_page_on_which_nothing_happens_does_nothing(
    fixture_site: FixtureSite, browser_page: Page
) -> None:
    fixture_site.login(browser_page, "runs?state=COMPLETED")
    expect(browser_page.locator("table.runs tbody tr")).to_have_count(50)
    expect(browser_page.get_by_text("Live", exact=True)).to_be_visible()
    changes, asked = [1], [1]
    while len(changes) < 12 and (changes[-1] or asked[-1]):  # what was asked for comes first
        before = len(fixture_site.world.asked)
        changes.append(browser_page.evaluate(CHANGES))
        asked.append(len(fixture_site.world.asked) - before)
    assert (changes[-1], asked[-1]) == (0, 0), (changes, asked)
