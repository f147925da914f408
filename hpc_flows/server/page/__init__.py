"""The page: its TypeScript source, how it is built, and where the built files are.

The server sends what is in `page_folder()`. It is built by `make page` in a checkout, and by the
build hook beside this file for wheels and source distributions; nothing built is committed.
"""

from __future__ import annotations

from pathlib import Path

#: The source: package.json, index.html and src.
SOURCE = Path(__file__).resolve().parent


class PageNotBuilt(RuntimeError):
    """The built page is not there; the message says how to have it."""


def page_folder() -> Path:
    """Return the folder with index.html and assets of the built page.

    Raises:
        PageNotBuilt: in a checkout in which `make page` was not run.
    """
    folder = SOURCE / "dist"
    if not (folder / "index.html").is_file():
        raise PageNotBuilt(
            f"The page is not built: there is no {folder / 'index.html'}. In a checkout, run "
            "`make page` (it needs Node 20.19 or newer, or takes one from the Python registry); "
            "wheels come with the page. The API works without it."
        )
    return folder
