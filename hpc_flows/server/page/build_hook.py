"""Puts the built page into wheels and source distributions; editable installs build nothing.

Named in pyproject.toml as hatch's custom build hook. A machine without a Node that is new enough
gets one from the Python registry, into the build's own environment only. A source distribution
holds the built page, so that installing one needs no Node at all.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from types import ModuleType

#: Where the page is in the project.
PAGE = "hpc_flows/server/page"


def _building(page: Path) -> ModuleType:
    """Load building.py by its path: while the project is built, nothing of it is installed."""
    name = "hpc_flows_page_building"
    spec = importlib.util.spec_from_file_location(name, page / "building.py")
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{page / 'building.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class PageBuildHook(BuildHookInterface[Any]):
    """Builds the page before files are collected, and names what was built as a part of them."""

    def dependencies(self) -> list[str]:
        """Name the Node that the build needs beside what is on the machine."""
        page = Path(self.root, PAGE)
        building = _building(page)
        if building.is_fresh(page) or building.has_node():
            return []
        return [building.NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, unless this is an editable install."""
        if version == "editable":
            return
        page = Path(self.root, PAGE)
        building = _building(page)
        if not building.is_fresh(page):
            self.app.display_info("The page is being built with npm.")
        building.build(page)
        # Ignored by git, and part of what is shipped all the same.
        build_data["artifacts"].append(f"/{PAGE}/dist/**")
