"""`hpc-flows`: the group of all commands, and how errors reach the user."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from hpc_flows._version import __version__
from hpc_flows.cli.command import FAILED, INTERRUPTED, Invocation, LazyGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem

_COMMANDS = {
    name: (f"hpc_flows.cli.{name.replace('-', '_')}:{name.replace('-', '_')}", short)
    for name, short in (
        ("run", "Run a flow, with live progress."),
        ("runs", "List, show and cancel runs, and read their logs."),
        ("flow-run", "List, show, follow and steer flow runs."),
        ("task-run", "List and show task runs, and read their logs."),
        ("watch", "Follow a run in the terminal until it ends."),
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
        ("relay", "Report runs to the servers, and to the file, that the settings name."),
        ("connect", "Log in to a login node once, for commands and tunnels."),
        ("profile", "Keep sets of settings under names, and choose one."),
        ("config", "See and change settings."),
        ("completion", "Print the shell's completion script."),
        ("version", "Print versions and where things lie."),
    )
}

_PROFILE = "HPC_FLOWS_PROFILE"

#: Exit status when the reader of a pipe has left, as shells count SIGPIPE.
BROKEN_PIPE = 141


def _choose_profile(context: click.Context, _: click.Parameter, name: str | None) -> None:
    """Choose a profile for this command, and for what it starts."""
    if name is None:
        return
    before = os.environ.get(_PROFILE)
    os.environ[_PROFILE] = name
    context.call_on_close(lambda: _put_back(before))


def _put_back(before: str | None) -> None:
    os.environ.pop(_PROFILE, None)
    if before is not None:
        os.environ[_PROFILE] = before


def _profile_names(
    context: click.Context, option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from hpc_flows.cli.profile import ProfileName  # noqa: PLC0415 - only to complete

    return ProfileName().shell_complete(context, option, begun)


class _ReaderLeft(Exception):
    """Nobody reads what a command prints any more."""


class _AllCommands(LazyGroup):
    """The group of all commands, which keeps broken pipes from click: it would end with 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the options, such as --help, which prints."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError as error:
            raise _ReaderLeft from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderLeft from error


@click.group(
    cls=_AllCommands,
    on_use=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? Try: hpc-flows demo",
)
@click.version_option(__version__, prog_name="hpc-flows", message="%(prog)s %(version)s")
@click.option(
    "-p",
    "--profile",
    metavar="NAME",
    is_eager=True,
    expose_value=False,
    callback=_choose_profile,
    shell_complete=_profile_names,
    help="Take the settings of this profile (also: HPC_FLOWS_PROFILE).",
)
def cli() -> None:
    """Prefect-style flows whose every task gets its own piece of a cluster."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    _open_closed_streams()
    _print_anything()
    status = invoke(sys.argv[1:] if args is None else args)
    _forget_unwritable()
    sys.exit(status)


def _forget_unwritable() -> None:
    """Lead stderr to nowhere if it cannot be written: Python would end with 120 at its last try."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _open_closed_streams() -> None:
    """Lead streams that the caller has closed (`>&-`) to nowhere.

    The next file that is opened would have their number, and what programs print would be written
    into it: a journal, say.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
            setattr(sys, name, getattr(sys, name) or stream)


def _print_anything() -> None:
    """Let no name or log record that the terminal's encoding lacks end a command."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")


def invoke(args: Sequence[str]) -> int:
    """Run one command and return its exit status; no exception leaves but `SystemExit`."""
    invocation = Invocation()
    try:
        status = cli.main(
            args=list(args), prog_name="hpc-flows", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
    except click.ClickException as error:
        _tell(error.show)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell(click.echo, "Interrupted.", err=True)
        return INTERRUPTED
    except (_ReaderLeft, BrokenPipeError):
        return _reader_left()
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        # Loaded only for errors: `--help` and completion stay quick.
        from hpc_flows.cli.trouble import report  # noqa: PLC0415

        _tell(report, error, debug=invocation.debug)
        return FAILED
    return status if isinstance(status, int) else 0


def _tell(say: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Tell what went wrong, if stderr can be written; the exit status says it in any case."""
    with contextlib.suppress(OSError):
        say(*args, **kwargs)


def _reader_left() -> int:
    """Handle `hpc-flows runs ls | head`: what could not be written is nobody's loss."""
    # Python flushes stdout at exit and would complain about the closed pipe once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
