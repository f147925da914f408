"""A run as one HTML file: it works without a server, and without trusting what is in it."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING

import pytest
from browsing import NARROW
from playwright.sync_api import expect
from run_flows import MARKUP
from run_sites import run_everything, send_made, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browsing import Browsing

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

TASK_RUNS = 10_000
LARGEST = 2_000_000


@pytest.fixture(scope="module")
def exported(built_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with exported runs; the server that made them is gone."""
    folder = tmp_path_factory.mktemp("exported")
    ran = run_everything(folder / "flows")
    with started(folder / "server") as site:
        for name in (site.take(ran), "ten-thousand"):
            if name == "ten-thousand":
                send_made(site, name, TASK_RUNS)
            (folder / f"{name}.html").write_bytes(_fetched(site.url, site.token, name))
        (folder / f"{ran.name}.html").rename(folder / "everything.html")
    return folder


def _fetched(url: str, token: str, run: str) -> bytes:
    address = f"{url}/api/v1/flow-runs/{run}/export"
    asked = urllib.request.Request(address)  # noqa: S310 - our own server
    asked.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(asked, timeout=150) as answer:  # noqa: S310 - the same
        return bytes(answer.read())


def test_an_exported_run_shows_all_of_it_without_any_server(
    exported: Path, browsing: Browsing
) -> None:
    page = browsing.page()
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto((exported / "everything.html").as_uri())
    expect(page.locator("h1")).to_have_text("everything")
    expect(page.locator(".chart[data-mode=rows]")).to_have_attribute("data-rows", "14")
    expect(page.locator(".node")).to_have_count(5)
    for text in ("no result for 2", "preparing 1", "as array 1"):
        assert text in page.content()
    headings = page.locator("section > h2").all_inner_texts()
    wanted = ["Tasks", "Failures", "Timeline", "Graph", "Jobs", "Parameters", "The end of the logs"]
    assert headings == wanted
    assert page.locator("img").count() == 0
    assert asked == []
    assert browsing.hosts <= {""}


def test_an_exported_run_is_filtered_sorted_and_zoomed(exported: Path, browsing: Browsing) -> None:
    page = browsing.page()
    page.goto((exported / "ten-thousand.html").as_uri())
    expect(page.locator(".chart")).to_have_attribute("data-rows", str(TASK_RUNS))
    page.get_by_label("State", exact=True).select_option("Failed")
    expect(page.locator(".chart")).to_have_attribute("data-rows", "10")
    page.get_by_label("State", exact=True).select_option("")
    page.get_by_label("Task", exact=True).select_option("train")
    expect(page.locator(".chart")).to_have_attribute("data-rows", "2500")
    page.get_by_role("button", name="Ran").click()
    row = page.locator(".exported-table .virtual").first
    expect(row).to_contain_text(re.compile("train-.*(4 min 59 s|5 min 00 s)"))
    row.click()
    expect(page.locator(".chosen-run")).to_contain_text("queued")
    assert page.evaluate("document.querySelectorAll('*').length") < 2500


def test_an_exported_run_fits_a_narrow_window(exported: Path, browsing: Browsing) -> None:
    page = browsing.page(NARROW)
    page.goto((exported / "everything.html").as_uri())
    expect(page.locator(".chart")).to_be_visible()
    expect(page.get_by_text("memory 64 MiB, walltime 5 min", exact=False)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_ten_thousand_task_runs_make_a_file_below_two_megabytes(exported: Path) -> None:
    assert (exported / "ten-thousand.html").stat().st_size < LARGEST


def test_an_exported_run_can_be_read_where_no_script_runs(
    exported: Path, browsing: Browsing
) -> None:
    page = browsing.page(java_script_enabled=False)
    page.goto((exported / "everything.html").as_uri())
    expect(page.locator("#exported-runs")).to_contain_text("drawn by a script")
    expect(page.locator("table.list").first).to_contain_text("fail_at_two")
    expect(page.locator(".pairs")).to_contain_text(MARKUP)


def test_the_policy_of_an_exported_run_lets_no_other_script_run(
    exported: Path, browsing: Browsing
) -> None:
    text = (exported / "everything.html").read_text()
    broken = exported / "broken.html"
    # As if escaping had failed somewhere.
    evil = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
    broken.write_text(text.replace("<main", f"{evil}<main", 1))
    browsing.forgiven += ["Content Security Policy", "Content-Security-Policy"]
    page = browsing.page()
    page.goto(broken.as_uri())
    expect(page.locator(".chart")).to_be_visible()
    assert page.title() == "everything · Completed"
