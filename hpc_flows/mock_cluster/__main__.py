"""`python -m hpc_flows.mock_cluster`: start, status, stop, faults, paths."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hpc_flows.mock_cluster import launcher
from hpc_flows.mock_cluster.faults import parse_words, read_file
from hpc_flows.mock_cluster.sites import VERSIONS, SiteError


def main(argv: list[str] | None = None) -> int:
    """Run one of the verbs and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (SiteError, launcher.MockError) as error:
        sys.stderr.write(f"mock cluster: {error}\n")
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hpc_flows.mock_cluster", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, run, text in (
        ("start", _start, "start a mock cluster; one that runs is left as it is"),
        ("status", _status, "say whether it runs, and what is on it"),
        ("stop", _stop, "cancel its jobs and end it"),
        ("faults", _faults, "show, set, add or clear scripted faults"),
        ("paths", _paths, "print where its parts are"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(run=run)
        verb.add_argument("--home", required=True, help="the folder that holds mock/NAME")
        verb.add_argument("--name", default="mock", help="the mock's name (default: mock)")
        _ADD.get(name, lambda _verb: None)(verb)
    return parser


def _add_start(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--profile", type=Path, help="a cluster profile; none: the built-in site")
    verb.add_argument("--version", choices=VERSIONS, help="the version of Slurm to play")
    verb.add_argument("--no-accounting", action="store_true", help="a site without slurmdbd")
    verb.add_argument("--min-job-age", type=float, metavar="S", help="--set min_job_age=S")
    verb.add_argument("--dbd-lag", type=float, metavar="S", help="--set dbd_lag=S")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=S", help="a timing in seconds"
    )
    verb.add_argument("--faults", type=Path, metavar="FILE", help="a faults file, TOML or JSON")
    verb.add_argument("--fresh", action="store_true", help="forget the jobs of earlier runs")


def _add_stop(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--keep-jobs", action="store_true", help="let running jobs live on")


def _add_faults(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("action", choices=["show", "set", "add", "clear"], nargs="?", default="show")
    verb.add_argument("words", nargs="*", help="set: FILE; add: KIND key=value ...")


_ADD = {"start": _add_start, "stop": _add_stop, "faults": _add_faults}


def _start(arguments: argparse.Namespace) -> int:
    timings: dict[str, str | float] = {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            message = f"--set {text}: write it as NAME=SECONDS"
            raise SiteError(message)
        timings[name] = value
    for name in ("min_job_age", "dbd_lag"):
        if getattr(arguments, name) is not None:
            timings[name] = getattr(arguments, name)
    options = launcher.StartOptions(
        profile=arguments.profile,
        version=arguments.version,
        accounting=False if arguments.no_accounting else None,
        timings=timings,
        faults=read_file(arguments.faults) if arguments.faults else None,
        fresh=arguments.fresh,
    )
    info = launcher.start(arguments.home, arguments.name, options)
    word = "started" if info.started else "runs already"
    if info.warning:
        sys.stderr.write(f"mock cluster: {info.warning}\n")
    sys.stdout.write(f"mock cluster {info.name!r} {word} (pid {info.pid}); commands: {info.bin}\n")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    found = launcher.status(arguments.home, arguments.name)
    if found is None:
        sys.stdout.write(f"mock cluster {arguments.name!r} does not run\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    ran = launcher.stop(arguments.home, arguments.name, keep_jobs=arguments.keep_jobs)
    word = "stopped" if ran else "did not run"
    sys.stdout.write(f"mock cluster {arguments.name!r} {word}\n")
    return 0


def _faults(arguments: argparse.Namespace) -> int:
    home, name, words = arguments.home, arguments.name, arguments.words
    if arguments.action == "set":
        if len(words) != 1:
            message = "faults set: give one faults file"
            raise SiteError(message)
        found = launcher.set_faults(home, name, read_file(Path(words[0])))
    elif arguments.action == "add":
        found = launcher.add_fault(home, name, parse_words(words))
    elif arguments.action == "clear":
        found = launcher.clear_faults(home, name)
    else:
        found = launcher.show_faults(home, name)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def _paths(arguments: argparse.Namespace) -> int:
    where = launcher.paths(arguments.home, arguments.name)
    table = {"folder": where.folder, "bin": where.bin, "socket": where.socket, "log": where.log}
    sys.stdout.write(json.dumps({key: str(path) for key, path in table.items()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
