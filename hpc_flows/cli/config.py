"""`hpc-flows config`: see the settings in force and where each comes from, and change them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.cli.trouble import complain
from hpc_flows.exceptions import close_match
from hpc_flows.settings import get_settings
from hpc_flows.settings.known import SETTINGS, find_setting
from hpc_flows.settings.profiles import profiles_path, set_setting, unset_setting

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_PREFIX = "HPC_FLOWS_"

#: Variables of ours that are no settings.
_OTHER_VARIABLES = frozenset({"HPC_FLOWS_PROFILE", "HPC_FLOWS_DEBUG", "HPC_FLOWS_CLUSTER_PATH"})


@click.group(cls=LazyGroup)
def config() -> None:
    """See and change settings.

    A setting comes from the environment (HPC_FLOWS_<NAME>), else from the active profile in
    profiles.toml, else it has its default.
    """


class _SettingName(TextType):
    """A setting's name, in any case, with or without `HPC_FLOWS_`."""

    name = "setting"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names of settings."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        return [
            CompletionItem(setting.name, help=setting.doc)
            for setting in SETTINGS
            if setting.name.startswith(incomplete)
        ]


@config.command()
@click.option("--show-secrets", is_flag=True, help="Show tokens and passwords as they are.")
@json_option
def view(show_secrets: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show every setting, its value, and where the value comes from.

    Tokens and passwords are masked.
    """
    settings = get_settings()
    values = settings.to_dict(secrets=True)
    if not show_secrets:
        values = {each.name: each.shown(values[each.name]) for each in SETTINGS}
    if as_json:
        rows = {
            each.name: {
                "value": values[each.name],
                "source": settings.sources[each.name],
                "variable": each.variable,
                "description": each.doc,
            }
            for each in SETTINGS
        }
        print_json({"profile": settings.profile, "file": profiles_path(), "settings": rows})
    else:
        click.echo(f"Profile {settings.profile!r} of {profiles_path()}{_absent()}\n")
        print_rows(
            ("setting", "value", "from", "what it does"),
            [
                (each.name, _shown(values[each.name]), settings.sources[each.name], each.doc)
                for each in SETTINGS
            ],
        )
    _warn_of_unknown_variables()


def _absent() -> str:
    return "" if os.path.exists(profiles_path()) else " (no such file yet)"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _warn_of_unknown_variables() -> None:
    known = {setting.variable for setting in SETTINGS} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        unknown = name.startswith(_PREFIX) and name not in known
        if unknown and not name.startswith((_PREFIX + "TEST_", _PREFIX + "_")):
            match = close_match(name, known)
            complain(f"The environment has {name}, which is no setting.{match}")


@config.command("set")
@click.argument("name", metavar="NAME[=VALUE]", type=_SettingName())
@click.argument("value", required=False)
def set_(name: str, value: str | None) -> None:
    """Store a setting in the active profile.

    NAME VALUE or NAME=VALUE; `hpc-flows config view` lists the names.
    """
    if value is None:
        name, equals, value = name.partition("=")
        if not equals:
            raise click.UsageError(f"Give a value: hpc-flows config set {name} VALUE")
    stored = set_setting(name, value)
    setting = find_setting(name)
    click.echo(f"{setting.name} = {_shown(setting.shown(stored))}  ({profiles_path()})")
    if setting.variable in os.environ:
        complain(f"{setting.variable} is set in this shell and wins over the profile.")


@config.command()
@click.argument("name", type=_SettingName())
def unset(name: str) -> None:
    """Remove a setting from the active profile.

    It has its default again.
    """
    setting = find_setting(name)
    if not unset_setting(name):
        click.echo(f"{setting.name} was not set in {profiles_path()}.")
        return
    value = get_settings().to_dict(secrets=True)[setting.name]
    click.echo(f"{setting.name} = {_shown(setting.shown(value))}")
