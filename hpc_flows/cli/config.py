"""`hpc-flows config`: see the settings in force and where each comes from, and change them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.terminal import print_json, print_rows
from hpc_flows.cli.trouble import complain
from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.settings import get_settings
from hpc_flows.settings.known import SETTINGS, find_setting
from hpc_flows.settings.profiles import (
    active_profile_name,
    holds_secret,
    profiles_path,
    read_profiles,
    set_settings,
    unset_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from hpc_flows.settings import Settings
    from hpc_flows.settings.kinds import Setting

_PREFIX = "HPC_FLOWS_"

#: Variables of ours that are no settings.
_OTHER_VARIABLES = frozenset({"HPC_FLOWS_PROFILE", "HPC_FLOWS_DEBUG", "HPC_FLOWS_CLUSTER_PATH"})

#: Permissions that let others than the owner read or write.
_OTHERS = 0o077


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
        """Offer the names of settings, and the values of those that have a few."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        name, equals, begun = incomplete.partition("=")
        if equals:
            chosen = next((each for each in SETTINGS if each.name == name), None)
            choices = () if chosen is None else chosen.choices
            return [CompletionItem(f"{name}={c}") for c in choices if c.startswith(begun)]
        return [
            CompletionItem(setting.name, help=setting.doc)
            for setting in SETTINGS
            if setting.name.startswith(incomplete)
        ]


@config.command()
@click.option(
    "--show-defaults/--hide-defaults", default=True, help="Also settings that nobody has set."
)
@click.option("--show-sources/--hide-sources", default=True, help="Where each value comes from.")
@click.option(
    "--show-secrets/--hide-secrets", default=False, help="Tokens and passwords as they are."
)
@json_option
def view(show_defaults: bool, show_sources: bool, show_secrets: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show every setting, its value, and where the value comes from.

    Tokens and passwords are masked.
    """
    settings = get_settings()
    values = shown_values(settings, secrets=show_secrets)
    wanted = [s for s in SETTINGS if show_defaults or settings.sources[s.name] != "default"]
    if as_json:
        rows = {each.name: _as_dict(each, values, settings) for each in wanted}
        if not show_sources:
            for row in rows.values():
                del row["source"]
        print_json({"profile": settings.profile, "file": profiles_path(), "settings": rows})
    else:
        click.echo(f"Profile {settings.profile!r} of {profiles_path()}{_absent()}\n")
        _print_settings(wanted, values, settings.sources if show_sources else None)
    _warn_of_unknown_variables()
    _warn_of_open_file()


def shown_values(settings: Settings, *, secrets: bool) -> dict[str, Any]:
    """Return all values by name, those of secrets masked unless asked for."""
    values = settings.to_dict(secrets=True)
    return values if secrets else {each.name: each.shown(values[each.name]) for each in SETTINGS}


def _as_dict(setting: Setting, values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "value": values[setting.name],
        "source": settings.sources[setting.name],
        "variable": setting.variable,
        "description": setting.doc,
    }


def _print_settings(
    wanted: Sequence[Setting], values: dict[str, Any], sources: dict[str, str] | None
) -> None:
    if not wanted:
        click.echo("Every setting has its default.")
        return
    headings = ["setting", "value", "from", "what it does"]
    rows = [[s.name, in_words(values[s.name]), (sources or {}).get(s.name), s.doc] for s in wanted]
    if sources is None:
        del headings[2]
        for row in rows:
            del row[2]
    print_rows(headings, rows)


def _absent() -> str:
    return "" if os.path.exists(profiles_path()) else " (no such file yet)"


def in_words(value: Any) -> str:
    """Return a setting's value as it is shown."""
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


def _warn_of_open_file() -> None:
    path = profiles_path()
    if os.path.exists(path) and os.stat(path).st_mode & _OTHERS and holds_secret(read_profiles()):
        complain(f"{path} holds a secret, and others may read it. Mend it: chmod 600 {path}")


@config.command("set")
@click.argument("assignments", metavar="NAME=VALUE...", nargs=-1, type=_SettingName())
def set_(assignments: tuple[str, ...]) -> None:
    """Store settings in the active profile, all or none.

    NAME=VALUE as often as you like, or NAME VALUE once; `hpc-flows config view` lists the names.
    A secret that is not to stand in the shell's history is given as NAME=-, and typed, or read
    from standard input.
    """
    texts = _with_secrets(_pairs(assignments))
    stored = set_settings(texts)
    for name, value in stored.items():
        setting = find_setting(name)
        click.echo(f"{name} = {in_words(setting.shown(value))}  ({profiles_path()})")
    for name in texts:
        _warn_of_variable(find_setting(name))


def _pairs(assignments: tuple[str, ...]) -> dict[str, str]:
    if not assignments:
        raise click.UsageError("Give what to set: hpc-flows config set NAME=VALUE")
    if len(assignments) == 2 and "=" not in assignments[0]:  # noqa: PLR2004 - NAME VALUE
        return {assignments[0]: assignments[1]}
    texts = {}
    for each in assignments:
        name, equals, value = each.partition("=")
        if not equals:
            find_setting(name)  # a typo is told before what is missing
            raise click.UsageError(f"Give a value: hpc-flows config set {name}=VALUE")
        texts[name] = value
    return texts


def _with_secrets(texts: dict[str, str]) -> dict[str, str]:
    """Ask for those secrets whose value is `-`."""
    return {
        name: _typed(name) if value == "-" and find_setting(name).secret else value
        for name, value in texts.items()
    }


def _typed(name: str) -> str:
    """Return what is typed, unseen, or the next line of what another command gives."""
    if sys.stdin.isatty():
        text: str = click.prompt(name, hide_input=True, err=True)
        return text
    given = sys.stdin.readline().strip()
    if not given:
        raise SettingsError(f"Nothing came on standard input for {name}; it stays as it is.")
    return given


def _warn_of_variable(setting: Setting) -> None:
    if setting.variable in os.environ:
        complain(f"{setting.variable} is set in this shell and wins over the profile.")
    elif setting.also is not None and setting.also in os.environ:
        complain(f"{setting.also} is set in this shell and wins over the profile.")


@config.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=_SettingName())
def unset(names: tuple[str, ...]) -> None:
    """Remove settings from the active profile.

    They have their defaults again.
    """
    found = set(unset_settings(names))
    values = shown_values(get_settings(), secrets=False)
    for name in dict.fromkeys(find_setting(each).name for each in names):
        if name in found:
            click.echo(f"{name} = {in_words(values[name])}")
        else:
            profile, _ = active_profile_name()
            click.echo(f"{name} was not set in profile {profile!r} of {profiles_path()}.")
