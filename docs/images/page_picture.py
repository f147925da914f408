"""Make docs/images/page.png: the page's dashboard, with the made-up runs of the page's tests.

Run it as `.venv/bin/python docs/images/page_picture.py` after `make page`, where Chromium is
installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "page"))

from fixture_server import World, serve  # noqa: E402 - found by the line above

SIZE = {"width": 1180, "height": 640}


def main() -> None:
    """Serve made-up runs, log in, and keep what is seen."""
    server = serve(World(runs=400))
    place = f"http://127.0.0.1:{server.server_address[1]}/#/login?code=one-time-code"
    flags = ["--disable-gpu", "--no-first-run", "--disable-background-networking"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport=SIZE, color_scheme="light", timezone_id="UTC")
        page.goto(place)
        page.wait_for_selector("text=Active runs")
        page.wait_for_timeout(500)  # the charts are drawn
        page.screenshot(path=HERE / "page.png")
        browser.close()
    server.shutdown()
    print(HERE / "page.png")


if __name__ == "__main__":
    main()
