"""`hpc-flows event`: what users' code, and users themselves, have emitted."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.runs import RunName, folder_of
from hpc_flows.cli.terminal import json_text, print_json, print_rows
from hpc_flows.events import OUTSIDE, RESOURCE_ID, emit_event
from hpc_flows.journal.index import list_runs, summarise
from hpc_flows.journal.reader import JournalReader, iter_run
from hpc_flows.runs import short
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.journal.event import Event

#: Events that are listed when nobody says how many, and runs that are looked into.
_LISTED, _RUNS = 20, 30

#: Seconds between two looks while following.
_PAUSE = 0.5


@click.group(cls=LazyGroup)
def event() -> None:
    """List, follow and emit events of your own.

    In a flow: emit_event("name", resource={"prefect.resource.id": "what"}), from hpc_flows.events.
    """


@event.command("ls")
@click.option("--run", type=RunName(), help="Only those of this run.")
@click.option("--name", "prefix", default="", help="Only those whose name begins so.")
@click.option("-n", "--limit", default=_LISTED, help="How many to list; 0 for all.")
@json_option
def ls(run: str | None, prefix: str, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the newest events, of one run or of the newest runs and outside of them."""
    folders = _folders() if run is None else [folder_of(run)]
    found = sorted(_chosen(_read(folders), prefix), key=lambda each: each.wall)
    shown = found[-limit:] if limit > 0 else found
    if as_json:
        print_json([_facts(each) for each in shown])
        return
    if not shown:
        click.echo("There are no such events.")
        return
    print_rows(("occurred", "event", "resource", "run", "payload"), [_row(each) for each in shown])


@event.command()
@click.argument("run", type=RunName(), default="latest")
@click.option("--name", "prefix", default="", help="Only those whose name begins so.")
def stream(run: str, prefix: str) -> None:
    """Print the events of a run as they come, a line of JSON for each, until it ends.

    RUN is a name, an id or the beginning of one, or `latest`.
    """
    folder = folder_of(run)
    reader = JournalReader(folder)
    ended = False
    while not ended:
        ended = summarise(folder).alive is False  # asked before the last look
        while events := reader.poll():  # of a long journal more than one look is left
            for each in _chosen(events, prefix):
                click.echo(json_text(_facts(each)))
        if not ended:
            time.sleep(_PAUSE)


@event.command()
@click.argument("name")
@click.option("--resource-id", required=True, help="What it concerns, such as mylab.sample.7.")
@click.option("--payload", default="{}", help="Facts, as a JSON object.")
def emit(name: str, resource_id: str, payload: str) -> None:
    """Emit an event, outside of any run."""
    try:
        facts = json.loads(payload)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="--payload") from None
    if not isinstance(facts, dict):
        raise click.BadParameter("it must be a JSON object", param_hint="--payload")
    made = emit_event(name, {RESOURCE_ID: resource_id}, payload=facts)
    click.echo(f"{made.id} {made.event}")


def _folders() -> list[str]:
    home = get_settings().home
    outside = os.path.join(home, OUTSIDE)
    runs = [run.path for run in list_runs(home)[:_RUNS]]
    return [*runs, outside] if os.path.isdir(outside) else runs


def _read(folders: Iterable[str]) -> Iterator[Event]:
    for folder in folders:
        yield from iter_run(folder)


def _chosen(events: Iterable[Event], prefix: str) -> Iterator[Event]:
    for each in events:
        if each.kind == "event" and str(each.data.get("name", "")).startswith(prefix):
            yield each


def _facts(each: Event) -> dict[str, Any]:
    return {"run": each.run, **each.data}


def _row(each: Event) -> tuple[str, ...]:
    data = each.data
    resource = data.get("resource")
    id_ = resource.get(RESOURCE_ID, "-") if isinstance(resource, dict) else "-"
    payload = json.dumps(data.get("payload", {}), ensure_ascii=False)
    occurred = str(data.get("occurred", "-"))[:19].replace("T", " ")
    return (occurred, str(data["name"]), str(id_), short(each.run), payload)
