"""Places for files: what is written is read, by those who await too, and nothing outside is."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import filesystems
from hpc_flows.exceptions import SettingsError
from hpc_flows.filesystems import (
    LocalFileSystem,
    NullFileSystem,
    ReadableDeploymentStorage,
    ReadableFileSystem,
    RemoteFileSystem,
    WritableDeploymentStorage,
    WritableFileSystem,
)
from hpc_flows.filesystems.ignore import IgnoreRules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return a file system of each kind."""
    if request.param == "local":
        return LocalFileSystem(tmp_path / "base")
    return RemoteFileSystem(f"memory://{tmp_path.name}/base")


both = pytest.mark.parametrize("place", ["local", "remote"], indirect=True)


@both
def test_what_is_written_is_read_in_plain_code(place: Any) -> None:
    path = place.write_path("folder/file.txt", b"hello")
    assert path.endswith("folder/file.txt")
    assert place.read_path("folder/file.txt") == b"hello"
    assert place.read_path(path) == b"hello"


@both
def test_what_is_written_is_read_in_coroutines(place: Any) -> None:
    async def use() -> None:
        waiting = place.write_path("a.txt", b"1")
        assert inspect.iscoroutine(waiting)
        await waiting
        assert await place.read_path("a.txt") == b"1"
        await place.awrite_path("b.txt", b"2")
        assert await asyncio.gather(*[place.read_path(name) for name in ("a.txt", "b.txt")]) == [
            b"1",
            b"2",
        ]
        assert await type(place).read_path.aio(place, "b.txt") == b"2"
        # A plain function of a program with a loop, such as a sync flow in a notebook.
        assert in_plain_code() == b"2"
        assert place.read_path("b.txt", _sync=True) == b"2"

    def in_plain_code() -> Any:
        return place.read_path("b.txt")

    asyncio.run(use())
    assert asyncio.run(place.aread_path("b.txt")) == b"2"


def fill(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "top.txt").write_text("top")
    (folder / "inner" / "deep.txt").write_text("deep")
    (folder / "inner" / "code.py").write_text("pass")
    (folder / ".ignore").write_text("*.py\n")


@both
def test_folders_go_there_and_back_without_what_is_ignored(place: Any, tmp_path: Path) -> None:
    fill(tmp_path / "from")
    place.put_directory(tmp_path / "from", "copy", ignore_file=tmp_path / "from" / ".ignore")
    place.get_directory("copy", tmp_path / "back")
    found = sorted(str(p.relative_to(tmp_path / "back")) for p in (tmp_path / "back").rglob("*"))
    assert found == [".ignore", "inner", "inner/deep.txt", "top.txt"]
    assert (tmp_path / "back" / "inner" / "deep.txt").read_text() == "deep"


def test_the_current_folder_is_meant_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    LocalFileSystem(tmp_path / "there").put_directory()
    assert (tmp_path / "there" / "inner" / "deep.txt").exists()
    os.mkdir(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    LocalFileSystem(tmp_path / "there").get_directory()
    assert (tmp_path / "empty" / "top.txt").exists()
    assert LocalFileSystem().local_path("x") == str(tmp_path / "empty" / "x")


def test_a_folder_can_be_put_into_itself(tmp_path: Path) -> None:
    fill(tmp_path)
    LocalFileSystem(tmp_path).put_directory(tmp_path, "copy")
    assert sorted(os.listdir(tmp_path / "copy")) == [".ignore", "inner", "top.txt"]


@pytest.mark.parametrize("path", ["../escape", "/etc/hostname", "a/../../escape", "~/escape"])
def test_nothing_outside_of_a_folder_is_reached(path: str, tmp_path: Path) -> None:
    place = LocalFileSystem(tmp_path / "base")
    (tmp_path / "base").mkdir()
    (tmp_path / "escape").write_text("secret")
    for use in (
        lambda: place.read_path(path),
        lambda: place.write_path(path, b""),
        lambda: place.get_directory(path, tmp_path / "to"),
        lambda: place.put_directory(tmp_path / "base", path),
    ):
        with pytest.raises(ValueError, match="outside of the base path"):
            use()


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "base" / "link").symlink_to(tmp_path / "secret")
    place = LocalFileSystem(tmp_path / "base")
    with pytest.raises(ValueError, match="outside of the base path"):
        place.read_path("link")
    place.get_directory(local_path=tmp_path / "copy")
    assert (tmp_path / "copy" / "link").is_symlink()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    place = LocalFileSystem(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is not a file"):
        place.read_path("folder")
    with pytest.raises(ValueError, match="already exists and is not a file"):
        place.write_path("folder", b"")
    with pytest.raises(ValueError, match="does not exist"):
        place.read_path("missing")


@pytest.mark.parametrize(
    "path",
    [
        "memory://box/other/x",
        "memory://box/base-2/x",
        "memory://BOX/base/x",
        "memory://box/base/../x",
        "memory://box/base/%2e%2e/x",
        "memory://box/base\\..\\x",
        "memory://box/ba%73e/x",
        "../x",
        "s3://box/base/x",
    ],
)
def test_nothing_beside_a_remote_folder_is_reached(path: str) -> None:
    place = RemoteFileSystem("memory://box/base")
    with pytest.raises(ValueError, match=r"outside of the base path|must use the same scheme"):
        place.write_path(path, b"")


@pytest.mark.parametrize(
    ("basepath", "problem"),
    [
        ("folder", "must start with a scheme"),
        ("memory://", "must include a location"),
        ("file:" + 3 * "/" + "y", "must include a location"),
        ("file://host/y", "use LocalFileSystem"),
    ],
)
def test_addresses_that_lead_nowhere_are_refused(basepath: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RemoteFileSystem(basepath)


def test_a_scheme_without_its_module_is_told() -> None:
    with pytest.raises(RuntimeError, match="missing a Python module"):
        RemoteFileSystem("s3://bucket/x").read_path("y")


def test_without_fsspec_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SettingsError, match=r"pip install 'hpc-flows\[remote\]'"):
        RemoteFileSystem("memory://x/y").read_path("z")


def test_settings_of_a_store_are_not_shown() -> None:
    place = RemoteFileSystem("memory://x/y", settings={"secret": "hidden"})
    assert "hidden" not in repr(place)
    assert place.model_dump()["settings"] == {"secret": "hidden"}
    assert json.loads(json.dumps(LocalFileSystem("/x").model_dump())) == {"basepath": "/x"}


def test_file_systems_of_the_same_place_are_equal() -> None:
    assert LocalFileSystem("/x") == LocalFileSystem(basepath="/x")
    assert LocalFileSystem("/x") != LocalFileSystem("/y")
    assert NullFileSystem() != LocalFileSystem()
    assert len({LocalFileSystem("/x"), LocalFileSystem("/x")}) == 1


def test_nothing_is_kept_nowhere() -> None:
    place = NullFileSystem()
    assert place.write_path("a", b"1") == "a"
    with pytest.raises(ValueError, match="keeps nothing"):
        place.read_path("a")


def test_file_systems_say_what_they_can_do() -> None:
    for kind in (LocalFileSystem, RemoteFileSystem):
        assert issubclass(kind, WritableFileSystem)
        assert issubclass(kind, WritableDeploymentStorage)
        assert issubclass(kind, ReadableDeploymentStorage)
    assert issubclass(NullFileSystem, ReadableFileSystem)
    assert not issubclass(NullFileSystem, ReadableDeploymentStorage)

    class Half(WritableFileSystem):
        def read_path(self, path: str) -> bytes:
            return b""

    with pytest.raises(TypeError, match="write_path"):
        Half()  # type: ignore[abstract]


def test_saving_under_a_name_is_refused_until_there_are_blocks() -> None:
    with pytest.raises(SettingsError, match=r"has no blocks. .* LocalFileSystem\(basepath"):
        LocalFileSystem("/x").save("mine")
    with pytest.raises(SettingsError, match="'mine' cannot be saved or loaded"):
        LocalFileSystem.load("mine")


PATTERNS = (
    *("*.py", "**/kitty/*", "/top.txt", "inner/", "a?c[0-9].d*", "deep/**/x.txt", "docs/*.md"),
    *("*\n!keep.py", "# comment", "[!a-z]*", "x/**", "**/b.py", "abc1", "**"),
)


@pytest.mark.skipif(shutil.which("git") is None, reason="git says what its patterns mean")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_what_they_mean_to_git(pattern: str, tmp_path: Path) -> None:
    names = [
        *("top.txt", "a.py", "keep.py", "inner/b.py", "inner/top.txt", "x/kitty/cat", "kitty/c"),
        *("x/kitty/y/z", "abc1.dat", "q/abc1.d", "abcx.d", "deep/x.txt", "deep/a/b/x.txt"),
        *("docs/a.md", "docs/in/a.md", "q/docs/a.md"),
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text(pattern)
    git = ["git", "-c", "init.defaultBranch=main", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    done = subprocess.run(
        [*git, "ls-files", "-o", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    kept = set(done.stdout.split()) - {".gitignore"}
    rules = IgnoreRules(pattern.splitlines())
    assert {name for name in names if not rules.leave_out(name)} == kept


def test_names_that_do_not_exist_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="SMBX"):
        filesystems.SMBX  # noqa: B018 - the look-up is what is tested
    assert all(hasattr(filesystems, name) for name in filesystems.__all__)
