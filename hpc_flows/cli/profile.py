"""`hpc-flows profile`: sets of settings with names, of which one is active."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.config import in_words
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.cli.trouble import complain
from hpc_flows.exceptions import SettingsError
from hpc_flows.settings.known import find_setting
from hpc_flows.settings.profiles import (
    active_profile_name,
    create_profile,
    delete_profile,
    profile_names,
    profile_values,
    profiles_path,
    rename_profile,
    use_profile,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_VARIABLE = "HPC_FLOWS_PROFILE"


class ProfileName(TextType):
    """A profile's name."""

    name = "profile"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names of the profiles that there are."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        try:
            names = profile_names()
        except SettingsError:  # nobody sees an error here
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.group(cls=LazyGroup)
def profile() -> None:
    """Keep sets of settings under names, and choose one.

    A profile holds settings, such as the cluster and the server that runs report to. `hpc-flows -p
    NAME ...` and HPC_FLOWS_PROFILE choose one for once; `hpc-flows profile use` for good. What
    stands in the environment (HPC_FLOWS_<NAME>) wins over any profile.
    """


@profile.command("ls")
@json_option
def ls(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the profiles; the active one has a star."""
    active, source = active_profile_name()
    names = profile_names()
    if as_json:
        rows = [
            {"name": n, "active": n == active, "settings": len(profile_values(n))} for n in names
        ]
        print_json(rows)
    else:
        print_rows(
            ("", "profile", "settings"),
            [("*" if n == active else "", n, ", ".join(profile_values(n))) for n in names],
        )
    if active not in names:
        complain(f"{source} says {active!r}, and there is no such profile.")


@profile.command()
@click.argument("name")
@click.option("--from", "source", type=ProfileName(), help="Begin with what this profile sets.")
def create(name: str, source: str | None) -> None:
    """Make a profile, and leave the active one as it is."""
    create_profile(name, source)
    click.echo(f"Made profile {name!r} in {profiles_path()}.")
    click.echo(f"Use it: hpc-flows profile use {name}   or once: hpc-flows -p {name} ...")


@profile.command()
@click.argument("name", type=ProfileName())
def use(name: str) -> None:
    """Make a profile the active one."""
    use_profile(name)
    click.echo(f"Profile {name!r} is active now ({profiles_path()}).")
    _warn_of_variable(name)


@profile.command()
@click.argument("name", type=ProfileName(), required=False)
@click.option(
    "--show-secrets/--hide-secrets", default=False, help="Tokens and passwords as they are."
)
@json_option
def inspect(name: str | None, show_secrets: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show what a profile sets; the active one when no NAME is given."""
    chosen = name or active_profile_name()[0]
    values = {
        setting: value if show_secrets else _masked(setting, value)
        for setting, value in profile_values(chosen).items()
    }
    if as_json:
        print_json(
            {"name": chosen, "active": chosen == active_profile_name()[0], "settings": values}
        )
        return
    if not values:
        click.echo(f"Profile {chosen!r} sets nothing.")
    for setting, value in values.items():
        click.echo(f"{setting} = {in_words(value)}")


def _masked(name: str, value: Any) -> Any:
    """Return a stored value as it may be shown; of a setting that does not exist as it is."""
    try:
        return find_setting(name).shown(value)
    except SettingsError:
        return value


@profile.command()
@click.argument("name", type=ProfileName())
@click.argument("new_name")
def rename(name: str, new_name: str) -> None:
    """Give a profile another name."""
    rename_profile(name, new_name)
    click.echo(f"Profile {name!r} is called {new_name!r} now.")
    if os.environ.get(_VARIABLE) == name:
        complain(f"{_VARIABLE} still says {name!r} in this shell.")


@profile.command()
@click.argument("name", type=ProfileName())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Delete a profile that is not the active one."""
    if profile_values(name) and not yes and sys.stdin.isatty():
        held = ", ".join(profile_values(name))
        click.confirm(f"Delete profile {name!r}, which sets {held}?", abort=True)
    delete_profile(name)
    click.echo(f"Deleted profile {name!r}.")
    if os.environ.get(_VARIABLE) == name:
        complain(f"{_VARIABLE} still says {name!r} in this shell.")


def _warn_of_variable(name: str) -> None:
    wanted = os.environ.get(_VARIABLE)
    if wanted and wanted != name:
        complain(f"{_VARIABLE} is set to {wanted!r} in this shell and wins: unset {_VARIABLE}")
