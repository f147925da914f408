"""Run the tests, or a site by hand: `python -m slurm_site test|bench|serve|stop|...`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_site import control, install
from slurm_site.configuration import Layout
from slurm_site.processes import SiteError
from slurm_site.run_suite import run
from slurm_site.site import Site
from slurm_site.workplace import say

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUITES = ("test", "bench")
_ASKED = ("status", "stop", "start", "kill", "pause", "resume", "open", "close")


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    if arguments and arguments[0] in _SUITES:
        return run(arguments[0], arguments[1:])
    parser = argparse.ArgumentParser(prog="slurm_site", description=__doc__)
    parser.add_argument("what", choices=[*_SUITES, "serve", *_ASKED])
    parser.add_argument("folder", type=Path, help="where the site stands")
    parser.add_argument(
        "name", nargs="?", default="", help="a daemon, such as c1, or a site to open"
    )
    parser.add_argument("--port-base", type=int, default=17600)
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    if options.what == "serve":
        return _serve(Layout(folder, port_base=options.port_base))
    answer = control.ask(str(folder / "control"), options.what, options.name)
    say(f"{options.what} {options.name}: {answer}")
    return 0


def _serve(layout: Layout) -> int:
    """Keep a site up until a signal comes."""
    why_not = install.possible()
    if why_not:
        raise SiteError(why_not)
    if layout.folder.exists() and any(layout.folder.iterdir()):
        raise SiteError(f"{layout.folder} is not empty; a site wants a folder of its own")
    install.install()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    site = Site(layout)
    try:
        site.make_users()
        site.up()
        with control.serving(site) as listens:
            say(f"up. As {layout.user}: export SLURM_CONF={layout.conf}")
            say(f"HPC_FLOWS_TEST_SLURM={layout.folder} HPC_FLOWS_TEST_CONTROL={listens}")
            signal.pause()
    except KeyboardInterrupt:
        say("going down")
    finally:
        site.down()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SiteError as error:
        say(f"failed: {error}")
        sys.exit(1)
