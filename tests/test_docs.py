"""The documentation is true: its code runs, its links lead somewhere, and nothing is left out."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import pytest

import hpc_flows
from hpc_flows.cli.main import cli
from hpc_flows.resources import FIELDS
from hpc_flows.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
KINDS = ("tutorials", "how-to", "concepts", "reference")

PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "container" / "README.md",
        *(ROOT / "profiles").glob("*.md"),
    ]
)

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)|<img [^>]*src=\"(?P<image>[^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)

#: A page's Python blocks are not run when this stands before the block, with a reason.
NOT_RUN = re.compile(r"<!-- not run: \S.*-->\s*\Z")

#: A page's Python is run on this cluster.
ON_CLUSTER = re.compile(r"<!-- cluster: (\w+) -->")

#: Commands that only look, and need no run and no cluster: they are run as they are printed.
HARMLESS = ("version", "config view", "cluster ls", "cluster show", "--help", "--version")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    run: bool


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        language = found["info"].strip().partition(" ")[0]
        line = text.count("\n", 0, found.start()) + 1
        run = NOT_RUN.search(text[: found.start()]) is None
        indent = len(found["indent"])
        body = "".join(row[indent:] for row in found["body"].splitlines(keepends=True))
        yield Block(page, line, language, body, run)


def _program(page: Path) -> str:
    """Return the page's Python blocks as one program, each on its own line of the page."""
    lines: list[str] = []
    for block in _blocks(page):
        if block.language == "python" and block.run:
            lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


RUNNABLE = [page for page in PAGES if _program(page).strip()]


@pytest.mark.parametrize("page", RUNNABLE, ids=_name)
def test_python_on_the_page_runs(page: Path, tmp_path: Path) -> None:
    """Run the blocks of a page in order as one file, so that a page may build on its beginning."""
    program = tmp_path / f"{page.stem.replace('-', '_')}_page.py"
    program.write_text(_program(page))
    cluster = ON_CLUSTER.search(page.read_text())
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            cwd=tmp_path,
            env=os.environ
            | {"TMPDIR": str(tmp_path)}
            | ({"HPC_FLOWS_CLUSTER": cluster[1]} if cluster else {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        if cluster:
            _hpc_flows("mock", "stop")
    assert done.returncode == 0, f"{_name(page)}:\n{done.stderr[-3000:]}"


def _hpc_flows(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "hpc_flows", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _printed_commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Return the `hpc-flows ...` commands of a page's console blocks, with their lines."""
    for block in _blocks(page):
        if block.language not in {"console", "bash", "sh"}:
            continue
        text = block.text.replace("\\\n", " ")
        for line in text.splitlines():
            prompt = line.removeprefix("$ ") if block.language == "console" else line
            if block.language == "console" and prompt == line:
                continue
            words = shlex.split(prompt, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0] == "hpc-flows":
                yield block.line, words[1:]


COMMANDS = [
    pytest.param(words, id=f"{_name(page)}:{line}:{' '.join(words)}")
    for page in PAGES
    for line, words in _printed_commands(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_printed_commands_exist_with_their_options(words: list[str]) -> None:
    rest = [word for word in words if word not in {"...", "…"}]
    command: click.Command = cli
    context = click.Context(cli, info_name="hpc-flows")
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(args=rest)


@pytest.mark.parametrize(
    "words", [param for param in COMMANDS if " ".join(param.values[0]).startswith(HARMLESS)]
)
def test_printed_commands_that_only_look_run(words: list[str]) -> None:
    done = _hpc_flows(*words)
    assert done.returncode == 0, done.stderr


def _anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    titles = (re.sub(r"[`*]|\[|\]\([^)]*\)", "", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for found in LINK.finditer(FENCE.sub("", page.read_text())):
        target = found["target"] or found["image"]
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            dead.append(target)
    assert not dead


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    missing = [
        _name(page)
        for page in DOCS.rglob("*.md")
        if page != DOCS / "README.md" and f"({page.relative_to(DOCS).as_posix()}" not in index
    ]
    assert not missing


def test_every_page_is_of_one_of_four_kinds() -> None:
    allowed = {"README.md", "glossary.md", "from_prefect.md"}
    strange = [
        _name(page)
        for page in DOCS.rglob("*.md")
        if page.relative_to(DOCS).parts[0] not in {*KINDS, *allowed}
    ]
    assert not strange


def _reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def test_every_public_name_is_in_the_reference() -> None:
    page = _reference("python-api.md")
    missing = [name for name in hpc_flows.__all__ if not re.search(rf"`[@.]?{name}\b", page)]
    assert not missing


def test_every_name_of_the_package_can_be_imported() -> None:
    assert [name for name in hpc_flows.__all__ if not hasattr(hpc_flows, name)] == []


@pytest.mark.parametrize(
    "page", ["settings.md", "cli.md", "exceptions.md", "modules.md", "server-api.md"]
)
def test_generated_pages_say_what_the_code_says(page: str) -> None:
    path = DOCS / "reference" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert _reference(page) == generate.PAGES[page](), "run `make docs`"


def test_every_setting_is_in_the_reference_with_its_variable() -> None:
    page = _reference("settings.md")
    missing = [
        setting.name
        for setting in SETTINGS
        if f"`{setting.name}`" not in page or f"`{setting.variable}`" not in page
    ]
    assert not missing


def test_every_resource_field_is_in_the_reference() -> None:
    page = _reference("resources.md")
    assert [field for field in FIELDS if f"`{field}`" not in page] == []


def _commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(("hpc-flows", *path)), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            if not found.hidden:
                yield from _commands(found, (*path, name))


ALL_COMMANDS = dict(_commands(cli))


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_is_in_the_reference_with_its_options(name: str) -> None:
    page = _reference("cli.md")
    command = ALL_COMMANDS[name]
    assert f"`{name}" in page
    options = {
        option
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for option in param.opts
        if option.startswith("--")
    }
    assert {option for option in options if option not in page} == set()


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = ALL_COMMANDS[name]
    assert command.help
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help and not option.hidden] == []


def test_the_figure_of_the_order_of_imports_is_the_one_that_is_tested() -> None:
    source = (ROOT / "tests" / "test_architecture.py").read_text()
    floors = re.findall(r'^    "([a-z A-Z]+)": "([a-z_ ]+)",$', source, re.MULTILINE)
    assert len(floors) == 14
    page = (DOCS / "concepts" / "architecture.md").read_text()
    lines = [re.sub(r" +", " ", line).strip() for line in page.splitlines()]
    missing = [f"{floor} {names}" for floor, names in floors if f"{floor} {names}" not in lines]
    assert not missing


def test_the_folders_in_the_docs_are_the_folders() -> None:
    page = (DOCS / "concepts" / "architecture.md").read_text()
    folders = {path.parent.name for path in (ROOT / "hpc_flows").glob("*/__init__.py")}
    assert {folder for folder in folders if f"\n  {folder}/ " not in page} == set()


PUBLIC = {
    name: importlib.import_module(f"hpc_flows.{name}").__all__
    for name in ("clusters", "runtime", "serializers", "task_runners")
}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_name_of_a_public_module_is_in_the_reference(module: str) -> None:
    page = _reference("python-api.md")
    assert [name for name in PUBLIC[module] if f"`{name}`" not in page] == []


def test_the_picture_shows_a_real_terminal() -> None:
    picture = (DOCS / "images" / "demo.svg").read_text()
    assert "rich-terminal" in picture
    assert "docs/images/demo.svg" in (ROOT / "README.md").read_text()
    assert len(picture) < 200_000


def test_the_readme_begins_with_code_the_commands_and_the_picture() -> None:
    readme = (ROOT / "README.md").read_text()
    code, commands = readme.index("```python"), readme.index("```console")
    assert code < commands < readme.index("docs/images/demo.svg") < readme.index("\n## ")
    assert readme[: readme.index("docs/images/demo.svg")].count("\n") < 60
