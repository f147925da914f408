"""Write the pages of the reference that list what the code knows (`make docs`).

tests/test_docs.py fails when a page is not what this writes.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc_flows import exceptions
from hpc_flows.cli.main import cli
from hpc_flows.settings.known import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.settings.kinds import Setting

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "hpc_flows"

MARK = "<!-- written by generate.py: change the code, then run `make docs` -->"

SETTINGS_PAGE = """\
# Settings

{mark}

A setting is taken from the first of these that has it:

1. the environment variable;
2. the active profile in `profiles.toml` in the home folder: `hpc-flows config set NAME VALUE`
   writes it, `hpc-flows config unset NAME` takes it out;
3. the default.

`HPC_FLOWS_PROFILE` picks the profile. `hpc-flows config view` shows every setting, its value and
where it came from. A name that does not exist is refused with the nearest that does.

A **secret** is shown as `********` (`hpc-flows config view --show-secrets` shows it), is never
written into a journal, a log, `run.json` or what a job is handed, and a `profiles.toml` that holds
one can be read by its owner alone.

| setting | variable | value | default | what it does |
|---|---|---|---|---|
{rows}

## Other variables

| variable | what it does |
|---|---|
| `HPC_FLOWS_PROFILE` | name of the profile whose settings are in force |
| `HPC_FLOWS_CLUSTER_PATH` | folders with cluster profiles of your own, separated by `:` |
| `HPC_FLOWS_DEBUG` | `1`: errors on the command line come with their traceback |
"""

CLI_PAGE = """\
# The command line

{mark}

`hpc-flows` is the only command that is installed. `-h` or `--help` helps on each of its commands;
a typo is answered with the nearest name; `hpc-flows completion` prints what your shell needs to
complete names. Every command takes `--debug`, which shows the traceback of an error.

{index}

{sections}
"""

EXCEPTIONS_PAGE = """\
# Exceptions

{mark}

All are in `hpc_flows.exceptions`. What `result()` raises for a task that failed is the exception
of the task itself; for one that the machinery lost, the cause: [what to do](../how-to/errors.md).

```
{tree}
```
"""

MODULES_PAGE = """\
# Modules

{mark}

Every module in one sentence; why they stand like this is told by the
[architecture](../concepts/architecture.md). Only the names of [Python names](python-api.md) are for
programs; the rest may change.

{sections}
"""


SERVER_API_PAGE = """\
# The server's API

{mark}

Everything is below `/api/v1`. Requests and answers are JSON, times are seconds since 1970, lists
are `{{"items": [...], "total": number or null, "next": offset or null}}`, and errors are
`{{"error": code, "message": what to do}}` with 400, 401 (no valid token), 403 (not with
this token), 404 (not there, or not for you to see), 405, 409, 410 (removed), 413 (too large), 415,
421 (unknown `Host`), 422, 429 and 503 (`Retry-After` says when to come back).

Send a token as `Authorization: Bearer hpcf_…`; browsers have it in a cookie instead. The *scope* is
what the token must be for: `report`, `read`, `control` or `admin`; *any* is any valid token. How to
get one: [run a server](../how-to/server.md). `GET /api/v1/openapi.json` gives the same as OpenAPI,
for programs.

## Routes

{routes}

## Shapes

A `?` marks what may be missing.

{shapes}
"""


def setting_row(setting: Setting) -> str:
    """Return a setting's line of the table."""
    kind = " ".join(f"`{word}`" for word in setting.choices) or setting.kind
    kind = "secret" if setting.secret else kind
    variable = f"`{setting.variable}`"
    if setting.also is not None:
        variable += f", else `{setting.also}`"
    default = "not set" if setting.default is None else f"`{setting.default}`"
    return f"| `{setting.name}` | {variable} | {kind} | {default} | {setting.doc} |"


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    return SETTINGS_PAGE.format(mark=MARK, rows="\n".join(map(setting_row, SETTINGS)))


def commands(
    command: click.Command, path: tuple[str, ...] = ("hpc-flows",)
) -> Iterator[tuple[str, click.Command]]:
    """Return a command and all below it, with their names as they are typed."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from commands(found, (*path, name))


def text_of(command: click.Command) -> str:
    """Return a command's help as Markdown: click's unwrapped blocks become code."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        f"```\n{inspect.cleandoc(each.removeprefix(chr(8)).strip(chr(10)))}\n```"
        if each.startswith("\b")
        else each
        for each in paragraphs
    )


def option_row(option: click.Option) -> str:
    """Return an option's line of a command's table."""
    names = ", ".join((*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" {option.make_metavar(_context)}"
    text = re.sub(r"\s+", " ", option.help or "").replace("|", "\\|")
    return f"| `{names}{value}` | {text} |"


_context = click.Context(cli)


def section(name: str, command: click.Command) -> str:
    """Return a command's part of the page."""
    usage = command.collect_usage_pieces(click.Context(command, info_name=name))
    lines = [f"## `{name}`", "", text_of(command), "", f"```\n{name} {' '.join(usage)}\n```"]
    options = [
        param
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden and param.name != "debug"
    ]
    if options:
        lines += ["", "| option | |", "|---|---|", *map(option_row, options)]
    return "\n".join(lines)


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    known = list(commands(cli))
    index = "\n".join(
        f"- [`{name}`](#{name.replace(' ', '-')}): {command.get_short_help_str(limit=90)}"
        for name, command in known[1:]
    )
    sections = "\n\n".join(section(name, command) for name, command in known)
    return CLI_PAGE.format(mark=MARK, index=index, sections=sections)


def exceptions_page() -> str:
    """Return docs/reference/exceptions.md: the tree that the module's docstring draws."""
    tree = inspect.cleandoc(exceptions.__doc__ or "").partition("::\n\n")[2]
    return EXCEPTIONS_PAGE.format(mark=MARK, tree=inspect.cleandoc(tree))


def modules_page() -> str:
    """Return docs/reference/modules.md: each module by the first sentence of its docstring."""
    sections: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        first = " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")
        folder = path.relative_to(PACKAGE.parent).parent.as_posix()
        sections.setdefault(folder, []).append(f"| `{path.name}` | {first} |")
    parts = (
        f"## `{folder}/`\n\n| module | |\n|---|---|\n" + "\n".join(rows)
        for folder, rows in sections.items()
    )
    return MODULES_PAGE.format(mark=MARK, sections="\n\n".join(parts))


def server_api_page() -> str:
    """Return docs/reference/server-api.md: the routes as OpenAPI describes them."""
    from hpc_flows.server.app import described  # noqa: PLC0415 - an extra of the installation

    api = described()
    routes = [
        route_section(method, path, facts)
        for path, methods in api["paths"].items()
        for method, facts in methods.items()
    ]
    shapes = [
        shape_section(name, facts)
        for name, facts in sorted(api["components"]["schemas"].items())
        if "properties" in facts and not name.startswith(("HTTPValidation", "ValidationError"))
    ]
    return SERVER_API_PAGE.format(mark=MARK, routes="\n\n".join(routes), shapes="\n\n".join(shapes))


def route_section(method: str, path: str, facts: dict[str, Any]) -> str:
    """Return a route's part of the page: what it does, needs, takes and answers."""
    lines = [f"### `{method.upper()} {path.removeprefix('/api/v1')}`", "", facts["description"], ""]
    lines.append(f"- scope: {facts['x-scope']}")
    words = [f"`{each['name']}`" for each in facts.get("parameters", ()) if each["in"] == "query"]
    if words:
        lines.append(f"- query: {', '.join(words)}")
    if "requestBody" in facts:
        lines.append(f"- body: {contents(facts['requestBody'])}")
    for status, answer in facts["responses"].items():
        if status.startswith("2"):
            lines.append(f"- answer: {status} {contents(answer)}".rstrip())
    return "\n".join(lines)


def contents(part: dict[str, Any]) -> str:
    """Return the types and shapes of a body."""
    return ", ".join(
        f"`{kind}` {shape_name(each.get('schema', {}))}".strip()
        for kind, each in part.get("content", {}).items()
    )


def shape_name(schema: dict[str, Any]) -> str:
    """Return what a value is: a shape with its link, a list of something, or a plain type."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(shape_name(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {shape_name(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    return str(schema.get("type", "any JSON"))


def shape_section(name: str, facts: dict[str, Any]) -> str:
    """Return a shape's part of the page: its fields."""
    needed = set(facts.get("required", ()))
    rows = [
        f"| `{field}`{'' if field in needed else ' ?'} | {shape_name(schema)} |"
        for field, schema in facts["properties"].items()
    ]
    about = " ".join(facts.get("description", "").split())
    return "\n".join([f"### {name}", "", about, "", "| field | is |", "|---|---|", *rows])


PAGES = {
    "server-api.md": server_api_page,
    "settings.md": settings_page,
    "cli.md": cli_page,
    "exceptions.md": exceptions_page,
    "modules.md": modules_page,
}


if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
