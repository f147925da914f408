"""What opens a server stands nowhere on its page (T5), and its login link leaves no trace (T4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect
from run_sites import send_made
from secret_search import Search

if TYPE_CHECKING:
    from browsing import Browsing, Site
    from playwright.sync_api import Page

RUN = "made"
PLACES = ("dashboard", "runs", "clusters", "events", "artifacts", "variables", "settings")
TABS = ("tasks", "timeline", "graph", "table", "logs", "jobs", "artifacts", "details", "subflows")

#: All that a script of the page, or somebody at the screen, could read in a document; not the
#: browser's own note of where it came from, which has the used code until the page is left.
READ = """() => JSON.stringify([
  document.documentElement.outerHTML, document.body.innerText, document.title, location.href,
  document.cookie, document.referrer, {...localStorage}, {...sessionStorage}, history.state,
  [...document.querySelectorAll("input, textarea")].map((field) => field.value),
  performance.getEntriesByType("resource").map((entry) => entry.name),
])"""


def test_t5_no_view_of_the_page_shows_what_opens_the_server(site: Site, browsing: Browsing) -> None:
    send_made(site, RUN, 12)
    code = site.call("POST", "login-codes", {})
    page, said = browsing.page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.goto(code["url"])
    page.wait_for_selector("h1:has-text('Dashboard')")
    (session,) = [each["value"] for each in page.context.cookies()]
    made = _made_token(page, site)
    secrets = {"the admin's token": site.token, "a session": session, "a token of the page": made}
    search = Search({**secrets, "a login code": code["code"]})
    for place in (*PLACES, *(f"flow-runs/{RUN}?tab={tab}" for tab in TABS)):
        page.goto(f"{site.url}/#/{place}")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator("main .loading")).to_have_count(0)
        search.text("view", place, page.evaluate(READ))
    search.names("console", said)
    for _ in range(3):  # the link is not in the history either
        page.go_back()
        search.text("history", "back", page.url)
    assert search.looked_at["view"] == len(PLACES) + len(TABS)
    assert not search.findings, "\n".join(map(str, search.findings))


def _made_token(page: Page, site: Site) -> str:
    """Make a token on the page, where it is shown this once; return it."""
    page.goto(f"{site.url}/#/settings")
    page.get_by_role("button", name="New token…").click()
    form = page.get_by_role("dialog", name="New token")
    form.get_by_label("Name").fill("afton")
    form.get_by_role("button", name="Make it").click()
    text = page.locator("pre.secret").inner_text()
    search = Search({"the token": text})
    search.text("view", "settings", page.evaluate(READ))
    assert search.findings, "the search does not find what is shown"
    page.get_by_role("button", name="I have it").click()
    return text
