"""How errors are told: one clear block, a traceback only where it helps."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from hpc_flows.cli.terminal import echo_colour
from hpc_flows.exceptions import HpcFlowsError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_IMPORTLIB = os.path.dirname(importlib.__file__)


def report(error: BaseException, *, debug: bool) -> None:
    """Print an error to stderr: ours as one block, others with a way to learn more."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        return
    click.echo(block(error), err=True, color=echo_colour())


def block(error: BaseException) -> str:
    """Return the text of an error: what happened, its notes, and its cause if that adds."""
    lines = [click.style("Error: ", fg="red", bold=True) + _indented(_message(error))]
    lines += [f"  {_indented(note)}" for note in getattr(error, "__notes__", [])]
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in str(error):
        lines.append(f"  Because: {_indented(_message(cause))}")
    if not isinstance(error, HpcFlowsError | OSError):
        lines.append("  This was not foreseen. Add --debug for the traceback, and report it.")
    return "\n".join(lines)


def _message(error: BaseException) -> str:
    if isinstance(error, HpcFlowsError) and str(error):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        # "[Errno 13] Permission denied: '/x'" says the same less clearly.
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n  ")


def user_traceback(error: BaseException) -> str:
    """Return a traceback without our own frames, which say nothing about the user's code."""
    shown = traceback.TracebackException.from_exception(error)
    _drop_own_frames(shown)
    return "".join(shown.format())


def _drop_own_frames(shown: traceback.TracebackException) -> None:
    theirs = [frame for frame in shown.stack if not _is_machinery(frame.filename)]
    if theirs:
        shown.stack = traceback.StackSummary.from_list(theirs)
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _drop_own_frames(inner)


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_PACKAGE + os.sep, _IMPORTLIB + os.sep, "<frozen importlib"))


def complain(message: str) -> None:
    """Print a warning to stderr."""
    click.echo(click.style("Warning: ", fg="yellow", bold=True) + message, file=sys.stderr)
