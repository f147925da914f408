"""What all commands share: `--debug`, groups that load on use, and close matches for typos."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.exceptions import close_match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Choice = click.Choice[str]
    TextType = click.ParamType[str]
else:  # these have parameters since click 8.2 and 8.5
    _Choice, TextType = click.Choice, click.ParamType

#: Exit statuses, as shells and other tools use them; a wrong command line is 2, click's own.
FAILED, INTERRUPTED = 1, 130


def _debug_from_environment() -> bool:
    return os.environ.get("HPC_FLOWS_DEBUG", "").lower() in {"1", "true", "yes", "on"}


@dataclass
class Invocation:
    """One call of the command line.

    Attributes:
        debug: whether errors come with their traceback.
    """

    debug: bool = field(default_factory=_debug_from_environment)


def _set_debug(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value:
        context.ensure_object(Invocation).debug = True


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_debug,
        help="Show the traceback of errors (also: HPC_FLOWS_DEBUG=1).",
    )


def _unwrapped(text: str | None) -> str | None:
    r"""Turn the two characters `\b` of raw docstrings into the one that tells click not to wrap."""
    return None if text is None else text.replace("\\b\n", "\b\n")


class Command(click.Command):
    """A command that takes `--debug` wherever it stands on the line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _unwrapped(self.help)
        self.params.append(_debug_option())

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; what it prints by click has colours where `console` has them."""
        from hpc_flows.cli.terminal import echo_colour  # noqa: PLC0415 - not for --help

        ctx.color = echo_colour()
        return super().invoke(ctx)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    `hpc-flows --help` prints the short texts given here, so it imports no command; a test holds
    that they are the commands' own.
    """

    command_class = Command

    def __init__(
        self, *args: Any, on_use: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        """Make a group.

        Args:
            args: as for `click.Group`.
            on_use: `module:attribute` and short help of each command, by its name.
            kwargs: as for `click.Group`.
        """
        super().__init__(*args, **kwargs)
        self.on_use = dict(on_use or {})
        self.help = _unwrapped(self.help)
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, those on use in the order given."""
        return [*self.on_use, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module where need be."""
        if cmd_name not in self.on_use:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.on_use[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; a typo is answered with the nearest name."""
        name = args[0] if args else ""
        known = self.list_commands(ctx)
        if name and not name.startswith("-") and name not in known:
            match = close_match(name, known) or f" There are: {', '.join(known)}."
            ctx.fail(f"There is no command {name!r}.{match}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing those that load on use."""
        rows = [(name, short) for name, (_, short) in self.on_use.items()]
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class NamedChoice(_Choice):
    """One of several words; a typo is answered with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or fail naming the nearest."""
        if str(value) not in self.choices:
            match = close_match(str(value), self.choices)
            words = ", ".join(self.choices)
            self.fail(f"{value!r} is not one of: {words}.{match}", param, ctx)
        return value


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, also spelt `-o json` as in Prefect, to a command that shows something."""
    option = click.option(
        "--json", "as_json", is_flag=True, callback=_is_json, help="Print JSON for programs."
    )
    output = click.option(
        "-o",
        "--output",
        type=NamedChoice(["json"]),
        expose_value=False,
        is_eager=True,
        callback=_note_output,
        help="The same as --json.",
    )
    return option(output(function))


_OUTPUT = "hpc_flows.output"


def _note_output(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.meta[_OUTPUT] = value


def _is_json(context: click.Context, _option: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click calls it
    return value or context.meta.get(_OUTPUT) is not None
