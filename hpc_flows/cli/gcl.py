"""`hpc-flows gcl`: global concurrency limits, which `concurrency` and `rate_limit` go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.concurrency.limits import (
    TAG,
    Limit,
    create_limit,
    delete_limit,
    get_limit,
    list_limits,
    reset_limit,
    update_limit,
)
from hpc_flows.concurrency.spending import spent

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.group(cls=LazyGroup)
def gcl() -> None:
    """See and change global concurrency limits.

    `with concurrency("NAME"):` takes slots of a limit, over all processes and jobs that share
    HPC_FLOWS_HOME; `rate_limit("NAME")` takes slots that come back with time.
    """


class _LimitName(TextType):
    """A limit's name, completed by the shell."""

    name = "limit"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the limits that there are."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        return [CompletionItem(each.name) for each in _global() if each.name.startswith(incomplete)]


def _global() -> list[Limit]:
    return [limit for limit in list_limits() if not limit.name.startswith(TAG)]


def described(limit: Limit) -> dict[str, Any]:
    """Return a limit as JSON shows it, with who holds its slots."""
    holders = limit.holders()
    return {
        **limit.to_dict(),
        "active_slots": len(holders) + round(spent(limit), 3),
        "holders": [
            {
                "host": holder.host,
                "pid": holder.pid,
                "job": holder.job or None,
                "since": holder.since,
                "note": holder.note,
            }
            for holder in holders
        ],
    }


def inspected(limit: Limit, name: str) -> None:
    """Print a limit and who holds its slots."""
    held = limit.holders()
    used = len(held) + round(spent(limit), 3)
    state = "" if limit.active else ", disabled"
    click.echo(f"{name}: {used:g} of {limit.limit} slots taken{state}")
    if limit.slot_decay_per_second:
        click.echo(f"  {limit.slot_decay_per_second:g} come back each second")
    for holder in held:
        click.echo(f"  {holder}")


@gcl.command()
@click.argument("name")
@click.option("--limit", "-l", type=click.IntRange(0), required=True, help="How many slots.")
@click.option("--disable", is_flag=True, help="Create it without enforcing it.")
@click.option(
    "--slot-decay-per-second",
    type=click.FloatRange(0),
    default=0.0,
    help="For rates: how many slots come back each second.",
)
def create(name: str, limit: int, disable: bool, slot_decay_per_second: float) -> None:  # noqa: FBT001 - click gives flags as they are
    """Create a limit."""
    create_limit(name, limit, active=not disable, slot_decay_per_second=slot_decay_per_second)
    click.echo(f"Created the concurrency limit {name!r} of {limit}.")


@gcl.command()
@json_option
def ls(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the limits and how many of their slots are taken."""
    limits = _global()
    if as_json:
        print_json([described(limit) for limit in limits])
        return
    if not limits:
        click.echo("There are no limits yet: hpc-flows gcl create NAME --limit N")
        return
    rows = [
        (
            limit.name,
            str(limit.limit),
            f"{len(limit.holders()) + round(spent(limit), 1):g}",
            f"{limit.slot_decay_per_second:g}",
            "yes" if limit.active else "no",
        )
        for limit in limits
    ]
    print_rows(("name", "limit", "taken", "decay/s", "active"), rows)


@gcl.command()
@click.argument("name", type=_LimitName())
@json_option
def inspect(name: str, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show a limit and who holds its slots."""
    limit = get_limit(name)
    if as_json:
        print_json(described(limit))
    else:
        inspected(limit, name)


@gcl.command()
@click.argument("name", type=_LimitName())
@click.option("--limit", "-l", type=click.IntRange(0), help="How many slots.")
@click.option(
    "--slot-decay-per-second",
    type=click.FloatRange(0),
    help="For rates: how many slots come back each second.",
)
@click.option("--enable/--disable", "active", default=None, help="Whether it is enforced.")
def update(
    name: str,
    limit: int | None,
    slot_decay_per_second: float | None,
    active: bool | None,  # noqa: FBT001 - click gives flags as they are
) -> None:
    """Change a limit.

    Whoever waits goes by the new values; holders keep what they have.
    """
    if limit is None and slot_decay_per_second is None and active is None:
        raise click.UsageError("Say what to change: --limit, --slot-decay-per-second, --disable.")
    new = update_limit(
        name, limit=limit, active=active, slot_decay_per_second=slot_decay_per_second
    )
    click.echo(f"The concurrency limit {name!r} has {new.limit} slots now.")


@gcl.command()
@click.argument("name", type=_LimitName())
def enable(name: str) -> None:
    """Enforce a limit again."""
    update_limit(name, active=True)
    click.echo(f"The concurrency limit {name!r} is enforced.")


@gcl.command()
@click.argument("name", type=_LimitName())
def disable(name: str) -> None:
    """Stop enforcing a limit: everybody gets through at once."""
    update_limit(name, active=False)
    click.echo(f"The concurrency limit {name!r} is not enforced.")


@gcl.command()
@click.argument("name", type=_LimitName())
def reset(name: str) -> None:
    """Free all slots of a limit.

    Those who hold them notice it within a third of their lease.
    """
    freed = reset_limit(name)
    click.echo(f"Freed {freed} slot(s) of the concurrency limit {name!r}.")


@gcl.command()
@click.argument("name", type=_LimitName())
def delete(name: str) -> None:
    """Delete a limit."""
    delete_limit(name)
    click.echo(f"Deleted the concurrency limit {name!r}.")
