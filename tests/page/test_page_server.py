"""The page on a real server, with a real flow that reports to it while one looks."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browsing import Browsing, Site
    from playwright.sync_api import Page

FLOW = Path(__file__).with_name("page_flow.py")


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


@pytest.fixture
def running_flow(site: Site, gates: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a driver that reports to the server, and waits at its gates."""
    env = {
        **os.environ,
        "HPC_FLOWS_HOME": str(tmp_path / "driver-home"),
        "HPC_FLOWS_API_URL": site.url,
        "HPC_FLOWS_API_KEY": site.token,
    }
    with (tmp_path / "flow.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, str(FLOW), str(gates)], env=env, stdout=log, stderr=log
        )
    try:
        yield driver
    finally:
        for gate in ("measure", "end"):
            (gates / gate).touch()
        try:
            driver.wait(60)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()


def test_each_change_of_a_real_flow_shows_while_one_looks(
    site: Site, running_flow: subprocess.Popen[bytes], gates: Path, browser_page: Page
) -> None:
    site.login(browser_page)
    row = browser_page.get_by_role("row").filter(has_text="gated")
    expect(row).to_contain_text("Running")
    expect(row).to_contain_text("0 / 3")
    (gates / "measure").touch()
    expect(row).to_contain_text("3 / 3")
    expect(row.get_by_role("img")).to_have_attribute("aria-label", "2 completed, 1 failed")
    (gates / "end").touch()
    expect(row).to_have_count(0)
    browser_page.get_by_role("link", name="1 completed").click()
    row = browser_page.get_by_role("row").filter(has_text="gated")
    expect(row).to_contain_text("Completed")
    assert running_flow.wait(150) == 0


def test_a_run_that_is_cancelled_on_the_page_stops(
    site: Site, running_flow: subprocess.Popen[bytes], gates: Path, browser_page: Page
) -> None:
    site.login(browser_page, "runs?state=RUNNING")
    row = browser_page.get_by_role("row").filter(has_text="gated")
    expect(row).to_be_visible()
    row.get_by_role("checkbox").check()
    browser_page.get_by_role("button", name="Cancel 1…").click()
    browser_page.get_by_role("button", name="Cancel 1 run", exact=True).click()
    expect(browser_page.get_by_role("dialog", name="What became of it")).to_be_visible()
    browser_page.get_by_role("button", name="Close").click()
    (gates / "measure").touch()  # threads cannot be stopped in their midst
    browser_page.goto(f"{site.url}/#/runs")
    row = browser_page.get_by_role("row").filter(has_text="gated")
    expect(row).to_contain_text("Cancelled")


def test_a_login_link_works_once(site: Site, browsing: Browsing) -> None:
    browsing.forgiven.append("401")
    url = site.call("POST", "login-codes", {})["url"]
    first, second = browsing.page(), browsing.page()
    first.goto(url)
    expect(first.locator("h1")).to_have_text("Dashboard")
    second.goto(url)
    expect(second.get_by_role("alert")).to_be_visible()
    expect(second.get_by_role("button", name="Log in")).to_be_visible()


def test_the_session_is_out_of_reach_of_scripts_and_ends_at_logout(
    site: Site, browsing: Browsing
) -> None:
    browsing.forgiven.append("401")
    page = browsing.page()
    site.login(page)
    assert page.evaluate("document.cookie") == ""
    assert (
        page.evaluate("JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})")
        == "{}{}"
    )
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.goto(f"{site.url}/#/runs")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_every_place_of_the_page_is_answered_by_the_real_server(
    site: Site, browser_page: Page
) -> None:
    site.login(browser_page)
    refused: list[str] = []
    browser_page.on("response", lambda got: got.status >= 400 and refused.append(got.url))
    for place in ("runs", "clusters", "events", "artifacts", "variables", "settings"):
        browser_page.goto(f"{site.url}/#/{place}")
        expect(browser_page.locator("main h1")).to_be_visible()
        expect(browser_page.locator("main .loading")).to_have_count(0)
        expect(browser_page.get_by_role("alert")).to_have_count(0)
    assert refused == []


def test_tokens_variables_and_people_are_made_on_a_real_server(
    site: Site, browser_page: Page
) -> None:
    site.login(browser_page, "settings")
    browser_page.get_by_role("button", name="New token…").click()
    form = browser_page.get_by_role("dialog", name="New token")
    form.get_by_label("Name").fill("afton")
    form.get_by_role("button", name="Make it").click()
    text = browser_page.locator("pre.secret").inner_text()
    browser_page.get_by_role("button", name="I have it").click()
    asked = urllib.request.Request(f"{site.url}/api/v1/me")  # noqa: S310 - our own server
    asked.add_header("Authorization", f"Bearer {text}")
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - the same
        assert answer.status == 200
    for button, label, name in (
        ("New user…", "The person", "bob"),
        ("New project…", "Name", "ice"),
    ):
        browser_page.get_by_role("button", name=button).click()
        browser_page.get_by_role("dialog").get_by_label(label).fill(name)
        browser_page.get_by_role("button", name="Make it so").click()
        expect(browser_page.get_by_role("dialog")).to_have_count(0)
    browser_page.get_by_role("button", name="Add…").click()
    browser_page.get_by_role("dialog").get_by_label("User").fill("bob")
    browser_page.get_by_role("button", name="Make it so").click()
    expect(browser_page.locator(".member")).to_contain_text("bob")
    assert site.call("GET", "projects")["items"][0]["members"] == [{"user": "bob", "role": "read"}]
    browser_page.goto(f"{site.url}/#/variables")
    browser_page.get_by_role("button", name="New variable").click()
    form = browser_page.get_by_role("dialog")
    form.get_by_label("Name").fill("limit")
    form.get_by_label("Value").fill("12")
    form.get_by_role("button", name="Make it").click()
    expect(browser_page.get_by_role("row").filter(has_text="limit")).to_contain_text("12")
