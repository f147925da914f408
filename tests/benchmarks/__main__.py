"""Measure hpc_flows beside its peers: `python -m tests.benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import in_files, in_process, many_tasks, on_slurm, server_contests
from tests.benchmarks.measure import BenchError, Outcome, hold
from tests.benchmarks.peers import PrefectServer, make_environment
from tests.benchmarks.report import as_json, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measure import Contest


def main() -> int:
    """Hold the contests that were asked for; return 1 with --strict unless every budget is kept."""
    options = _options()
    try:
        with tempfile.TemporaryDirectory(prefix="hpc-flows-bench-", dir=options.work) as folder:
            outcomes = list(_hold_all(options, Path(folder)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        Path(options.json).write_text(json.dumps(as_json(outcomes), indent=1) + "\n")
    verdicts = [verdict.kept for outcome in outcomes for verdict in outcome.verdicts]
    kept, over, open_ = (verdicts.count(word) for word in (True, False, None))
    print(f"\n{kept} budgets kept, {over} exceeded, {open_} not measured")
    return 1 if options.strict and kept < len(verdicts) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="contests whose names contain this text")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument(
        "--slurm-rounds", type=int, default=3, help="turns of each side on Slurm (default 3)"
    )
    parser.add_argument("--no-slurm", action="store_true", help="leave the batch system out")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to a file")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 unless every budget is kept"
    )
    parser.add_argument(
        "--work", metavar="DIR", help="folder for the runs, seen by all nodes (default: temporary)"
    )
    options = parser.parse_args()
    if options.json is not None:
        _check_writable(parser, options.json)
    return options


def _check_writable(parser: argparse.ArgumentParser, path: str) -> None:
    """Find out before an hour is measured; as root, the bench runs as a plain user."""
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        parser.error(
            f"--json {path}: {error.strerror}; name a file that {getpass.getuser()} may write"
        )


def _hold_all(options: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    peers = make_environment(_say)
    base = _base(folder)
    with PrefectServer(peers, folder / "prefect", _free_port()) as server:
        sides = in_process.Sides(
            ours=sys.executable,
            peers=str(peers),
            env=base,
            prefect={**base, **server.settings()},
            prefect_alone={**base, **server.default_settings()},
        )
        plan = _wanted(
            [
                *in_process.contests(sides, options.rounds),
                *many_tasks.contests(sides, options.rounds),
                *server_contests.contests(sides, options.rounds),
            ],
            options.only,
        )
        if plan:
            server.open(base)
        yield from _each(plan)
    yield from _each(_wanted(in_files.contests(sides, options.rounds, folder), options.only))
    if not options.no_slurm:
        yield from _each(
            _wanted(on_slurm.contests(sides, options.slurm_rounds, folder), options.only)
        )


def _each(plan: list[Contest]) -> Iterator[Outcome]:
    for contest in plan:
        outcome = hold(contest, _say)
        print(table(outcome), flush=True)
        yield outcome


def _wanted(plan: list[Contest], text: str | None) -> list[Contest]:
    return [contest for contest in plan if text is None or text in contest.name]


def _base(folder: Path) -> dict[str, str]:
    """Return an environment without the caller's settings, with what Slurm needs."""
    kept = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "SLURM_CONF", "LD_LIBRARY_PATH")
    base = {name: os.environ[name] for name in kept if name in os.environ}
    return {**base, "HPC_FLOWS_HOME": str(folder / "hpc_flows")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
