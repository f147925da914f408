"""`hpc-flows variable`: named values that flows share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, TextType, json_option
from hpc_flows.cli.terminal import moment, print_fields, print_json, print_rows
from hpc_flows.exceptions import VariableError, close_match
from hpc_flows.variables import Variable, read_variable, variable_names

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Characters of a value that a list shows.
_SHOWN = 60


@click.group(cls=LazyGroup)
def variable() -> None:
    """Read and change named values that flows share.

    In a flow: Variable.get("name"), from hpc_flows.variables.
    """


class _Name(TextType):
    """The name of a variable."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names that there are."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        del ctx, param
        return [CompletionItem(name) for name in variable_names() if name.startswith(incomplete)]


def _found(name: str) -> Variable:
    found = read_variable(name)
    if found is None:
        known = variable_names()
        hint = close_match(name, known) or " `hpc-flows variable ls` lists them."
        raise VariableError(f"There is no variable {name!r}.{hint}")
    return found


@variable.command()
@click.argument("name", type=_Name())
def get(name: str) -> None:
    """Print the value of a variable.

    A text is printed as it is, anything else as JSON.
    """
    click.echo(_text(_found(name).value))


@variable.command("set")
@click.argument("name", type=_Name())
@click.argument("value")
@click.option("--overwrite", is_flag=True, help="Set it also if it exists.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option("--text", "as_text", is_flag=True, help="Take VALUE as text, also if it is JSON.")
def set_(name: str, value: str, overwrite: bool, tags: tuple[str, ...], as_text: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Keep a value under a name.

    VALUE is read as JSON where it is JSON (12, true, '["a", "b"]'), and is a text otherwise.
    """
    made = Variable.set(name, value if as_text else _read(value), tags=tags, overwrite=overwrite)
    click.echo(f"{made.name} = {_text(made.value)}")


@variable.command()
@click.argument("name", type=_Name())
def unset(name: str) -> None:
    """Remove a variable."""
    _found(name)
    Variable.unset(name)
    click.echo(f"Variable {name} is removed.")


@variable.command("ls")
@click.option("--tag", help="Only those with this tag.")
@json_option
def ls(tag: str | None, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List all variables."""
    found = [each for name in variable_names() if (each := read_variable(name)) is not None]
    shown = [each for each in found if tag is None or tag in each.tags]
    if as_json:
        print_json([each.to_dict() for each in shown])
        return
    if not shown:
        click.echo("There are no variables" + (f" with the tag {tag}." if tag else " yet."))
        return
    print_rows(
        ("variable", "value", "tags", "updated"),
        [(v.name, _short(v.value), ", ".join(v.tags), moment(v.updated)) for v in shown],
    )


@variable.command()
@click.argument("name", type=_Name())
@json_option
def inspect(name: str, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Show all that is known of a variable."""
    found = _found(name)
    if as_json:
        print_json(found.to_dict())
        return
    print_fields(
        {
            "name": found.name,
            "value": _text(found.value),
            "tags": ", ".join(found.tags) or "-",
            "created": moment(found.created),
            "updated": moment(found.updated),
        }
    )


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = " ".join(_text(value).split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
