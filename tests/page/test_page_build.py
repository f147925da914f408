"""How the page is built and shipped: in wheels, small, of this origin only, without inline code."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "hpc_flows/server/page"
#: Bytes of all that a browser may load, compressed as a server sends it.
BUDGET = 200 * 1024
#: Bytes that must come before the first view shows.
FIRST_BUDGET = 40 * 1024

BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def loaded_files(built: Path) -> list[Path]:
    """Return what a browser may load; the export's files are parts of other documents."""
    return [
        path
        for path in sorted(built.rglob("*"))
        if path.is_file() and path.suffix != ".txt" and "export" not in path.parts
    ]


def texts(built: Path, *suffixes: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in loaded_files(built) if path.suffix in suffixes}


def test_the_page_fits_into_200_kib_and_its_beginning_into_40(built_page: Path) -> None:
    sizes = {path: len(gzip.compress(path.read_bytes(), 6)) for path in loaded_files(built_page)}
    assert sum(sizes.values()) <= BUDGET
    index = (built_page / "index.html").read_text()
    first = [size for path, size in sizes.items() if path.name in index or path.suffix == ".html"]
    assert len(first) >= 3
    assert sum(first) <= FIRST_BUDGET


def test_nothing_in_the_page_leads_to_another_origin(built_page: Path) -> None:
    #: Names of the SVG and XML languages are no addresses.
    names = re.compile(r"https?://www\.w3\.org/[\w/]+")
    for name, text in texts(built_page, ".html", ".js", ".css", ".svg").items():
        found = re.findall(r"(?:https?:|wss?:)?//[a-z0-9-]+\.[a-z][^\s\"'`)]*", names.sub("", text))
        assert [each for each in found if not each.startswith("//#")] == [], name


def test_the_page_has_no_inline_code_and_makes_none(built_page: Path) -> None:
    index = (built_page / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\ssrc=)", index) == []
    assert "<style" not in index
    assert not re.search(r"\s(on\w+|style)=", index)
    for name, text in texts(built_page, ".js").items():
        assert not re.search(r"\beval\(|new Function\(", text), name


def test_addresses_in_the_page_are_relative(built_page: Path) -> None:
    index = (built_page / "index.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert len(addresses) >= 3
    assert all(each.startswith("./") for each in addresses)


def test_no_source_puts_data_into_markup() -> None:
    for path in (PAGE / "src").rglob("*.ts*"):
        text = path.read_text()
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc", text)
        assert found == [], path


def test_the_lock_names_no_registry_and_every_package_has_its_hash() -> None:
    packages = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    own = packages.pop("")
    assert own["name"] == "hpc-flows-page"
    assert len(packages) > 10
    for name, about in packages.items():
        assert "resolved" not in about, name
        assert about["integrity"].startswith("sha512-"), name


@pytest.mark.usefixtures("built_page")
def test_a_wheel_holds_the_built_page_and_none_of_its_sources(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = "hpc_flows/server/page/"
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = {name for name in wheel.namelist() if name.startswith(folder)}
        texts = {
            name.removeprefix(f"{folder}dist/"): wheel.read(name).decode()
            for name in names
            if name.startswith(f"{folder}dist/")
        }
    wanted = set(re.findall(r'(?:src|href)="\./([^"]+)"', texts["index.html"]))
    for text in texts.values():
        wanted |= {f"assets/{name}" for name in re.findall(r"import\([`'\"]\./([\w-]+\.js)", text)}
    assert len(wanted) > 8
    assert wanted <= set(texts)
    sources = {name for name in names if not name.startswith(f"{folder}dist/")}
    assert {name for name in sources if not name.endswith(".py")} == set()


def test_an_unchanged_page_is_not_built_again(building: ModuleType, built_page: Path) -> None:
    before = (PAGE / "dist/index.html").stat().st_mtime_ns
    building.build(PAGE)
    assert (PAGE / "dist/index.html").stat().st_mtime_ns == before


@pytest.fixture
def copied(building: ModuleType, tmp_path: Path) -> Path:
    """Return a small page of its own, which no build has seen."""
    page = tmp_path / "page"
    (page / "src").mkdir(parents=True)
    (page / "index.html").write_text("<p>one</p>")
    (page / "src/main.ts").write_text("export {};")
    return page


def test_every_change_of_a_source_makes_a_built_page_old(
    building: ModuleType, copied: Path
) -> None:
    (copied / "dist").mkdir()
    (copied / "dist" / building.STAMP).write_text(building.digest(copied))
    assert building.is_fresh(copied)
    (copied / "src/main.ts").rename(copied / "src/other.ts")
    assert not building.is_fresh(copied)


def test_without_node_the_message_says_what_to_install(
    building: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(building, "_node_of_python", lambda: None)
    with pytest.raises(building.PageBuildError, match=r"there is no `node` on PATH.*pip install"):
        building.build(copied)


def test_a_node_that_is_too_old_is_named(
    building: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("node", "npm"):
        (programs / name).write_text("#!/bin/sh\necho v18.20.4\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(building, "_node_of_python", lambda: None)
    with pytest.raises(building.PageBuildError, match=r"bin/node is v18\.20\.4"):
        building.build(copied)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("v20.18.9", False),
        ("v20.19.0", True),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v24.1.0", True),
        ("nonsense", False),
    ],
)
def test_versions_of_node_are_those_that_the_builder_runs_on(
    building: ModuleType, tmp_path: Path, version: str, *, good: bool
) -> None:
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    assert building._is_new_enough(node) is good


def test_a_build_that_fails_tells_what_npm_said(
    building: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "node").write_text("#!/bin/sh\necho v22.12.0\n")
    (programs / "npm").write_text("#!/bin/sh\necho no space left on device\nexit 7\n")
    for name in ("node", "npm"):
        (programs / name).chmod(0o755)
    (copied / "package-lock.json").write_text("{}")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(building.PageBuildError, match=r"ended with 7:\nno space left on device"):
        building.build(copied)
    assert not building.is_fresh(copied)


def test_the_hook_asks_for_a_node_of_the_registry_only_where_there_is_none(
    building: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.server.page import build_hook

    hook = build_hook.PageBuildHook(str(copied), {}, None, None, "", "wheel")
    monkeypatch.setattr(build_hook, "_building", lambda _: building)
    monkeypatch.setattr(building, "is_fresh", lambda _: False)
    monkeypatch.setattr(building, "has_node", lambda: False)
    assert hook.dependencies() == [building.NODE_PACKAGE]
    monkeypatch.setattr(building, "has_node", lambda: True)
    assert hook.dependencies() == []


def test_an_editable_installation_builds_nothing(
    building: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.server.page import build_hook

    def refuse(_: Path) -> ModuleType:
        raise AssertionError("it was to build nothing")

    monkeypatch.setattr(build_hook, "_building", refuse)
    hook = build_hook.PageBuildHook(str(copied), {}, None, None, "", "wheel")
    hook.initialize("editable", {"artifacts": []})


def test_a_page_that_is_not_built_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.server import page

    monkeypatch.setattr(page, "SOURCE", tmp_path)
    with pytest.raises(page.PageNotBuilt, match="run `make page`"):
        page.page_folder()
