"""Reporting of tasks that are called outside of any flow: each is a run of its own.

A program may call thousands of them, one after the other. So one thread for each sink reports all
of the process, as long as that lives; what is left is sent at its end, by the rules of a flow's.
"""

from __future__ import annotations

import atexit
import os
import sys
from threading import RLock
from typing import TYPE_CHECKING

from hpc_flows.engine.cancelling import last_calls
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.driver import Reporting
from hpc_flows.reporting.opening import configured

if TYPE_CHECKING:
    from hpc_flows.context import RootRun
    from hpc_flows.settings import Settings

#: Taken again by who is interrupted by a signal, and ends the process.
_lock = RLock()
#: By process and by what is configured: a child of a fork has none of its parent's threads.
_reportings: dict[tuple[int, str, tuple[str, ...]], Reporting | None] = {}
#: Processes that call `_end_all` when they end.
_ending: set[int] = set()


def begin_alone(root: RootRun) -> None:
    """Report a run of a task that was called alone, until `end_alone`; it never fails."""
    reporting = _reporting(root.settings)
    if reporting is not None:
        with _lock:
            reporting.add(root)


def end_alone(root: RootRun) -> None:
    """Say that nothing more will be written in a run; nobody waits for its reports."""
    pid = os.getpid()
    with _lock:
        mine = [each for key, each in _reportings.items() if key[0] == pid and each is not None]
    for reporting in mine:
        reporting.close(root.run_id)


def _reporting(settings: Settings) -> Reporting | None:
    named = (settings.report, settings.api_url, settings.prefect_api_url, settings.report_file)
    key = (os.getpid(), settings.home, tuple(name or "" for name in named))
    with _lock:
        if key not in _reportings:
            _reportings[key] = _made(settings)
            if key[0] not in _ending:
                _ending.add(key[0])
                atexit.register(_end_all, key[0])
                last_calls.append(lambda: _end_all(key[0]))
        return _reportings[key]


def _made(settings: Settings) -> Reporting | None:
    try:
        sinks = configured(settings)
    except HpcFlowsError as error:
        sys.stderr.write(f"Tasks that are called outside of flows are not reported: {error}\n")
        return None
    return Reporting(settings.home, sinks) if sinks else None


def _end_all(pid: int) -> None:
    """Send what is left, when the process ends that this belongs to."""
    if pid != os.getpid():
        return
    with _lock:
        mine = {key: each for key, each in _reportings.items() if key[0] == pid}
        for key in mine:
            del _reportings[key]
    for reporting in mine.values():
        if reporting is not None:
            reporting.end()
