"""`hpc-flows concurrency-limit`: how many task runs with a tag may run at once."""

from __future__ import annotations

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.gcl import described, inspected
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.concurrency.limits import (
    TAG,
    Limit,
    create_tag_limit,
    delete_limit,
    find_limit,
    list_limits,
    reset_limit,
)
from hpc_flows.exceptions import UnknownLimit, close_match


@click.group("concurrency-limit", cls=LazyGroup)
def concurrency_limit() -> None:
    """See and change how many task runs with a tag may run at once.

    Runs beyond the limit wait in the state AwaitingConcurrencySlot; jobs are sent only when there
    is a slot for them.
    """


def _of_tags() -> list[Limit]:
    return [limit for limit in list_limits() if limit.name.startswith(TAG)]


def _limit(tag: str) -> Limit:
    limit = find_limit(TAG + tag)
    if limit is None:
        tags = [each.name.removeprefix(TAG) for each in _of_tags()]
        raise UnknownLimit(
            f"The tag {tag!r} has no limit.{close_match(tag, tags)} `hpc-flows concurrency-limit "
            f"create {tag} N` gives it one."
        )
    return limit


@concurrency_limit.command()
@click.argument("tag")
@click.argument("concurrency_limit", metavar="LIMIT", type=click.IntRange(0))
def create(tag: str, concurrency_limit: int) -> None:
    """Let at most LIMIT task runs with TAG run at once; replaces the limit that there is."""
    create_tag_limit(tag, concurrency_limit)
    click.echo(f"At most {concurrency_limit} task run(s) with the tag {tag!r} run at once.")


@concurrency_limit.command()
@json_option
def ls(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the limits of tags and how many of their slots are taken."""
    limits = _of_tags()
    if as_json:
        print_json([{"tag": each.name.removeprefix(TAG), **described(each)} for each in limits])
        return
    if not limits:
        click.echo("No tag has a limit yet: hpc-flows concurrency-limit create TAG LIMIT")
        return
    rows = [
        (each.name.removeprefix(TAG), str(each.limit), str(len(each.holders()))) for each in limits
    ]
    print_rows(("tag", "limit", "taken"), rows)


@concurrency_limit.command()
@click.argument("tag")
@json_option
def inspect(tag: str, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show the limit of a tag, and which runs hold its slots."""
    limit = _limit(tag)
    if as_json:
        print_json({"tag": tag, **described(limit)})
    else:
        inspected(limit, tag)


@concurrency_limit.command()
@click.argument("tag")
def reset(tag: str) -> None:
    """Free all slots of a tag's limit; runs that hold them go on."""
    freed = reset_limit(_limit(tag).name)
    click.echo(f"Freed {freed} slot(s) of the tag {tag!r}.")


@concurrency_limit.command()
@click.argument("tag")
def delete(tag: str) -> None:
    """Delete the limit of a tag."""
    delete_limit(_limit(tag).name)
    click.echo(f"The tag {tag!r} has no limit any more.")
