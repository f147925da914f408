"""The browser of the page's tests."""

from __future__ import annotations

import shutil

from services import absent

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the path of a Chromium, or skip the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        absent("Chromium (the package `chromium`) is not installed")
    return found
