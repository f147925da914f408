"""`hpc-flows run`: a flow of a file, with live progress, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
import traceback
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.cluster import ClusterName
from hpc_flows.cli.command import INTERRUPTED, Command, Invocation, TextType
from hpc_flows.cli.flow_file import flows_of, load_flow, load_module, read_parameters
from hpc_flows.cli.progress import Progress, summary
from hpc_flows.cli.terminal import duration
from hpc_flows.cli.trouble import user_traceback
from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from hpc_flows.flows import Flow


class FlowPlace(TextType):
    """`FILE:FLOW`, with completion of both."""

    name = "flow"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer files before the colon, and the file's flows after it."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        place, colon, begun = incomplete.partition(":")
        if not colon:
            return [CompletionItem(incomplete, type="file")]
        try:
            flows = flows_of(load_module(place))
        except Exception:  # noqa: BLE001 - whatever a half-written file raises
            return []
        return [CompletionItem(f"{place}:{name}") for name in flows if name.startswith(begun)]


@click.command(cls=Command, short_help="Run a flow, with live progress.")
@click.argument("where", metavar="FILE:FLOW", type=FlowPlace())
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the flow; the value is read as JSON where it is JSON, else as text.",
)
@click.option("--cluster", type=ClusterName(), help="Where tasks with resources run.")
@click.option("--local", is_flag=True, help="Run everything here, whatever cluster is active.")
@click.option(
    "--progress/--no-progress",
    "live",
    default=None,
    help="Redraw a table, or print lines; a table by default where stdout is a terminal.",
)
def run(
    where: str,
    assignments: Sequence[str],
    cluster: str | None,
    local: bool,  # noqa: FBT001 - click gives flags as they are
    live: bool | None,  # noqa: FBT001 - click gives flags as they are
) -> int:
    r"""Run a flow of a Python file, and show how its task runs get on.

    FILE:FLOW is a file and the name of a flow in it; the name may be left out where the file has
    only one. MODULE:FLOW names an importable module. Ctrl-C cancels the run and its jobs.

    \b
      hpc-flows run cv.py:cross_validate -p folds=5
      hpc-flows run cv.py --cluster afton
    """
    name = choose_cluster(cluster, local=local)
    try:
        flow = load_flow(where)
    except click.UsageError:
        raise
    except Exception as error:
        if isinstance(error, HpcFlowsError):
            raise
        click.echo(user_traceback(error), err=True, nl=False)
        click.echo(f"{where.partition(':')[0]} cannot be imported, so nothing was run.", err=True)
        return 1
    parameters = read_parameters(flow, assignments)
    title = f"{flow.name} on {name}" if name else flow.name
    return execute(flow, parameters, Progress(title, live=live))


def choose_cluster(name: str | None, *, local: bool = False) -> str | None:
    """Make a cluster the active one for this process, and return its name.

    Raises:
        click.UsageError: a cluster and `local` exclude each other.
        ClusterError: its profile cannot be read.
    """
    if name is not None and local:
        raise click.UsageError("--cluster and --local exclude each other.")
    if name is not None or local:
        os.environ["HPC_FLOWS_CLUSTER"] = name or ""
    wanted = get_settings().cluster
    return None if wanted is None else Cluster.load(wanted).name


def execute(flow: Flow[..., Any], parameters: dict[str, Any], progress: Progress) -> int:
    """Run a flow under a progress display, tell how it ended, and return the exit status."""
    error: BaseException | None = None
    with progress:
        try:
            value = flow(**parameters)
            if inspect.iscoroutine(value):
                asyncio.run(value)
        except (Exception, KeyboardInterrupt) as raised:  # noqa: BLE001 - told below, by its kind
            error = raised
    if progress.view is None and isinstance(error, HpcFlowsError):
        raise error
    return _tell(progress, error)


def _tell(progress: Progress, error: BaseException | None) -> int:
    if isinstance(error, KeyboardInterrupt):
        _tell_end(progress, "cancelled", "magenta")
        return INTERRUPTED
    if error is None:
        _tell_end(progress, "completed", "green")
        return 0
    if click.get_current_context().ensure_object(Invocation).debug:
        _say("".join(traceback.format_exception(error)).rstrip("\n"))
    # The engine has logged the error with its traceback; what is left is to say that this was all.
    first, _, more = str(error).strip().partition("\n")
    why = f"{type(error).__name__}: {first}" + (" ..." if more else "")
    _tell_end(progress, "failed", "red", why)
    return 1


def _tell_end(progress: Progress, how: str, colour: str, why: str = "") -> None:
    view = progress.view
    if view is None or view.root is None:
        _say(f"The run {how} before it began. {why}".rstrip())
        return
    name = view.root.name
    took = duration(time.time() - progress.began)
    told = f": {why}" if why else f"; {summary(view)}."
    _say(f"Flow run {name!r} {click.style(how, fg=colour)} after {took}{told}")
    if why:
        _say(f"It had {summary(view)}.")
    _say(f"  hpc-flows runs show {name}")


def _say(text: str) -> None:
    """Print to stderr; where that cannot be written, the run has ended as it has all the same."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
