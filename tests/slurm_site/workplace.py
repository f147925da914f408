"""A plain user's place: a copy of the tree, environments, and commands run as that user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slurm_site.processes import SiteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[2]

#: What pip, npm and git need to reach the outside, and how a terminal is to be written to. Nothing
#: else of the caller's environment goes on.
_KEPT = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CI", "TERM"),
    "NODE_EXTRA_CA_CERTS",
)
_KEPT_BEGINNINGS = (
    *("PIP_", "HTTP_", "HTTPS_", "NO_", "http_", "https_", "no_"),
    *("NPM_CONFIG_", "npm_config_"),
)

#: Where the server's page lies when `make page` has built it; git ignores it.
_PAGE = "hpc_flows/server/page/dist"

_SKIPPED = (".git", ".venv", ".make", "__pycache__", "build", "dist", "node_modules")
_SKIPPED_CACHES = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")


class Workplace(NamedTuple):
    """Where a plain user works.

    Attributes:
        folder: holds `tree`, `home`, `tmp` and the environments, all the user's own.
        user: the user's name.
    """

    folder: Path
    user: str

    @property
    def tree(self) -> Path:
        """The copy of the project."""
        return self.folder / "tree"

    def make(self) -> None:
        """Copy the tree: what git tracks, what is new and not ignored, and the page as built."""
        for path in (self.folder, self.tree, self.folder / "home", self.folder / "tmp"):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        for name in tree_files():
            target = self.tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
        if (ROOT / _PAGE).is_dir():
            shutil.copytree(ROOT / _PAGE, self.tree / _PAGE, dirs_exist_ok=True)
        self.own(self.folder)

    def own(self, top: Path) -> None:
        """Give a folder and all below it to the user."""
        account = pwd.getpwnam(self.user)
        for folder, _, files in os.walk(top):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def environment(self) -> dict[str, str]:
        """Return the environment of the user's commands."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)
        }
        return kept | {
            "HOME": str(self.folder / "home"),
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(self.folder / "tmp"),
            "SHELL": "/bin/bash",
        }

    def start(
        self, argv: Sequence[str], env: dict[str, str] | None = None, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command as the user, in the tree; its output goes on, or into a file."""
        account = pwd.getpwnam(self.user)
        out = log.open("ab") if log else None
        try:
            return subprocess.Popen(
                argv,
                cwd=self.tree,
                env=self.environment() | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                umask=0o022,
            )
        finally:
            if out:
                out.close()

    def may_run(self, program: Path) -> bool:
        """Tell whether the user can run a Python."""
        try:
            probe = self.start([str(program), "-c", "import ssl, sqlite3, venv"], log=_null())
        except OSError:
            return False
        return probe.wait() == 0


def tree_files() -> list[str]:
    """Return the project's files by their paths in it."""
    argv = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*argv, "--cached", "--others", "--exclude-standard"],
            env=env,
            capture_output=True,
            check=False,
        )
        names = os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else []
    except FileNotFoundError:
        names = []
    # A source archive is no repository: then all files count that are not made by tools.
    found = {name for name in names if name} or set(_walked())
    return sorted(name for name in found if os.path.lexists(ROOT / name))


def _walked() -> Iterable[str]:
    skipped = (*_SKIPPED, *_SKIPPED_CACHES)
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped]
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), ROOT)


def find_python(version: str, place: Workplace) -> Path | str:
    """Return a Python of a version that the user can run, copied if need be; else why not."""
    for program in _candidates(version):
        if place.may_run(program):
            return program
        copy = _copied(program, version, place)
        if copy is not None:
            return copy
    return f"there is no python{version} on this machine"


def _candidates(version: str) -> list[Path]:
    folders = [*os.environ.get("PATH", "").split(":"), "/usr/local/bin", "/usr/bin"]
    found = [Path(folder) / f"python{version}" for folder in folders if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found += sorted(pyenv.glob(f"{version}*/bin/python{version}"), reverse=True)
    # pyenv's shims only work for versions that are switched on.
    return [p for p in dict.fromkeys(found) if p.is_file() and p.parent.name != "shims"]


def _copied(program: Path, version: str, place: Workplace) -> Path | None:
    """Copy an interpreter's tree to where the user may read it; /root is often closed."""
    probe = "import sys; print(sys.base_prefix)"
    argv = [str(program), "-I", "-c", probe]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    prefix = Path(done.stdout.strip() or "/nowhere")
    library = prefix / "lib" / f"python{version}"
    if done.returncode != 0 or prefix == Path("/usr") or not library.is_dir():
        return None
    target = place.folder / f"python{version}"
    left_out = shutil.ignore_patterns("test", "__pycache__", "idlelib", "site-packages", "*.a")
    shutil.copytree(library, target / "lib" / library.name, symlinks=True, ignore=left_out)
    for shared in (prefix / "lib").glob("libpython*"):
        shutil.copy2(shared, target / "lib", follow_symlinks=False)
    (target / "bin").mkdir()
    copy = target / "bin" / f"python{version}"
    shutil.copy2((prefix / "bin" / f"python{version}").resolve(), copy)
    _point_home(copy, prefix)
    place.own(target)
    return copy if place.may_run(copy) else None


def _point_home(program: Path, prefix: Path) -> None:
    """Make a copied program look for its libpython beside itself.

    A shared build names the folder that it was installed in, which is the one that is closed.
    """
    there, here = f"{prefix}/lib\0".encode(), b"$ORIGIN/../lib\0"
    if len(there) >= len(here):
        content = program.read_bytes()
        program.write_bytes(content.replace(there, here.ljust(len(there), b"\0")))


def venv_command(python: Path, folder: Path) -> list[str]:
    """Return the command that makes an environment with the project in it."""
    pip = f"{folder}/bin/python -m pip --disable-pip-version-check install --quiet"
    # What is never imported need not be compiled.
    text = f"{python} -m venv {folder} && {pip} --no-compile -e '.[dev]'"
    return ["/bin/sh", "-c", text]


def must(process: subprocess.Popen[bytes], what: str, log: Path) -> None:
    """Wait for a command.

    Raises:
        SiteError: it failed; its output is in the message.
    """
    if process.wait() != 0:
        raise SiteError(f"{what} failed:\n{log.read_text(errors='replace')[-4000:]}")


def say(text: str) -> None:
    """Tell the user what happens."""
    sys.stdout.write(f"slurm_site: {text}\n")
    sys.stdout.flush()


def _null() -> Path:
    return Path(os.devnull)
