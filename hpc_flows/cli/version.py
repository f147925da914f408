"""`hpc-flows version`."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import click

from hpc_flows._version import __version__
from hpc_flows.cli.command import Command, json_option
from hpc_flows.cli.terminal import print_fields, print_json
from hpc_flows.settings import get_settings


@click.command(cls=Command, short_help="Print versions and where things lie.")
@json_option
def version(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Print the versions of hpc-flows, Python and what they stand on, and where things lie."""
    facts = _facts()
    if as_json:
        print_json(facts)
    else:
        print_fields(facts)


def _facts() -> dict[str, str]:
    return {
        "hpc-flows": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "click": metadata.version("click"),
        "rich": metadata.version("rich"),
        "cloudpickle": metadata.version("cloudpickle"),
        "package": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        "home": str(get_settings().home),
    }
