"""Finding and reading profile files: the search order, `extends`, and errors with their line."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_flows.clusters.schema import PROFILE, read_table
from hpc_flows.exceptions import ClusterError, UnknownCluster, close_match
from hpc_flows.settings import data_dir, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Where the staff of a site puts profiles for all its users.
SITE_FOLDER = "/etc/hpc_flows/clusters"


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile as its files say it, with what it extends laid under it.

    Attributes:
        path: the file that was asked for.
        name: the cluster's name.
        table: keys and values, read and merged.
        mock_path: the file that holds the `[mock]` table; `path` where none does.
    """

    path: Path
    name: str
    table: dict[str, Any]
    mock_path: Path


def folders() -> list[Path]:
    """Return the folders in which profiles are looked for, first one first."""
    named = os.environ.get("HPC_FLOWS_CLUSTER_PATH", "").split(os.pathsep)
    return [
        *(Path(folder).expanduser() for folder in named if folder),
        Path(get_settings().home).expanduser() / "clusters",
        Path(SITE_FOLDER),
        Path(data_dir("profiles")),
    ]


def names() -> list[str]:
    """Return the names of all profiles that can be found, in alphabetical order."""
    return sorted({path.stem for folder in folders() for path in _tomls(folder)})


def _tomls(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix == ".toml"]
    except OSError:  # not there, or not for this user to read: the next folder may have it
        return []


def read_profile(name: str | os.PathLike[str]) -> ProfileFile:
    """Find a profile by name or path and read it.

    Raises:
        UnknownCluster: there is none of that name.
        ClusterError: a file cannot be read, or says something that has no meaning.
    """
    path = _find(os.fspath(name), seen=())
    chain = [(path, _read_file(path))]
    while (base := chain[-1][1].get("extends")) is not None:
        path = _find(base, seen=tuple(seen for seen, _ in chain))
        chain.append((path, _read_file(path)))
    table: dict[str, Any] = {}
    for _, layer in reversed(chain):
        table = _overlaid(table, layer)
    first, own = chain[0]
    mocks = [path for path, layer in chain if "mock" in layer]
    return ProfileFile(first, own.get("name", first.stem), table, (*mocks, first)[0])


def _find(name: str, seen: tuple[Path, ...]) -> Path:
    if "/" in name or name.endswith(".toml"):
        path = Path(name).expanduser()
        if os.path.isfile(path) and path.absolute() not in seen:
            return path.absolute()
        msg = f"There is no cluster profile {str(path)!r}. Give the path of a TOML file."
        raise UnknownCluster(msg)
    for path in (folder / f"{name}.toml" for folder in folders()):
        # Not Path.is_file(), which raises where a folder may not be read; the next may have it.
        if os.path.isfile(path) and path.absolute() not in seen:
            return path.absolute()
    raise UnknownCluster(_unknown(name, seen))


def _unknown(name: str, seen: tuple[Path, ...]) -> str:
    if seen:
        return (
            f"{seen[-1]} extends {name!r}, and there is no (other) profile of that name. "
            f"There are {', '.join(names())}."
        )
    known = names()
    return (
        f"There is no cluster {name!r}.{close_match(name, known)} There are "
        f"{', '.join(known) or 'none'}; `hpc-flows cluster ls` shows them, and a profile of your "
        f"own belongs to {folders()[-3]}/{name}.toml."
    )


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        msg = f"The cluster profile {path} cannot be read: {error.strerror}."
        raise ClusterError(msg) from error
    except ValueError as error:  # TOMLDecodeError, or bytes that are not UTF-8
        msg = f"The cluster profile {path} is not TOML: {error}."
        raise ClusterError(msg) from error

    def complain(at: tuple[str, ...], why: str) -> ClusterError:
        return ClusterError(f"{path}:{line_of(text, at)}: {why}")

    if "mock" in table and "extends" in table:
        why = "a profile with a [mock] table must stand alone: the mock reads only this file"
        raise complain(("extends",), why)
    return read_table(table, PROFILE, complain)


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merge(under[key], over[key]) for key in under.keys() & over.keys()}
    return {**under, **over, **both}


def _merge(under: Any, over: Any) -> Any:
    tables = isinstance(under, dict) and isinstance(over, dict)
    return _overlaid(under, over) if tables else over


_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"^\s*((?:\"[^\"]*\"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:\"[^\"]*\"|'[^']*'|[\w-]+))*)\s*="
)
_WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)")


def line_of(text: str, at: tuple[str, ...]) -> int:
    """Return the line of a key or of the nearest thing around it; tomllib keeps no positions."""
    best, line = 0, 1
    for number, place in _places(text):
        common = _common(place, at)
        if common == min(len(place), len(at)) and common > best:
            best, line = common, number
    return line


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return (*alike, False).index(False)


def _places(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _words(header[1])
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_words(key[1]))


def _words(dotted: str) -> tuple[str, ...]:
    return tuple(a or b or c for a, b, c in _WORD.findall(dotted))
