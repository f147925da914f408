"""`hpc-flows`: the group of all commands, and how errors reach the user."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from hpc_flows._version import __version__
from hpc_flows.cli.command import FAILED, INTERRUPTED, Invocation, LazyGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    name: (f"hpc_flows.cli.{name.replace('-', '_')}:{name.replace('-', '_')}", short)
    for name, short in (
        ("run", "Run a flow, with live progress."),
        ("runs", "List, show and cancel runs, and read their logs."),
        ("artifact", "List and show what runs have left to look at."),
        ("variable", "Read and change named values that flows share."),
        ("event", "List, follow and emit events of your own."),
        ("cluster", "See which clusters are known, and check them."),
        ("mock", "Start and handle a pretend cluster on this machine."),
        ("demo", "Measure Python's standard library on a pretend cluster."),
        ("gcl", "See and change global concurrency limits."),
        ("concurrency-limit", "See and change how many task runs with a tag may run at once."),
        ("server", "Start and stop a server, on which all runs are seen in one place."),
        ("token", "Make, list and revoke access tokens."),
        ("config", "See and change settings."),
        ("completion", "Print the shell's completion script."),
        ("version", "Print versions and where things lie."),
    )
}

#: Exit status when the reader of a pipe has left, as shells count SIGPIPE.
BROKEN_PIPE = 141


@click.group(
    cls=LazyGroup,
    on_use=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? Try: hpc-flows demo",
)
@click.version_option(__version__, prog_name="hpc-flows", message="%(prog)s %(version)s")
def cli() -> None:
    """Prefect-style flows whose every task gets its own piece of a cluster."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(invoke(sys.argv[1:] if args is None else args))


def invoke(args: Sequence[str]) -> int:
    """Run one command and return its exit status; no exception leaves but `SystemExit`."""
    invocation = Invocation()
    try:
        status = cli.main(
            args=list(args), prog_name="hpc-flows", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        # Loaded only for errors: `--help` and completion stay quick.
        from hpc_flows.cli.trouble import report  # noqa: PLC0415

        report(error, debug=invocation.debug)
        return FAILED
    return status if isinstance(status, int) else 0


def _reader_left() -> int:
    """Handle `hpc-flows runs ls | head`: what could not be written is nobody's loss."""
    # Python flushes stdout at exit and would complain about the closed pipe once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
