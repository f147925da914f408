"""Flows out of folders and git repositories that are not on the import path."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import MissingFlowError, repr_of
from hpc_flows.flows.loading import load_flow_from_entrypoint

if TYPE_CHECKING:
    from hpc_flows.flows import Flow

#: Seconds that git has to clone a repository.
_LONGEST_CLONE = 600
_ADDRESSES = ("http://", "https://", "ssh://", "git://", "file://", "git@")


def load_flow_from_source(source: Any, entrypoint: str) -> Flow[..., Any]:
    """Return the flow of an entrypoint below a folder, or in a clone of a git repository.

    Args:
        source: a path; the address of a repository, with `@branch` at its end for another branch,
            tag or commit than the usual; or an object with a `pull_code()` and a `destination`.
        entrypoint: `path/in/it.py:function`.

    Raises:
        MissingFlowError: there is no such source, file or flow.
        ScriptError: the file raised an error.
    """
    folder = _folder_of(source)
    path, colon, name = entrypoint.rpartition(":")
    if not colon:
        msg = f"The entrypoint {entrypoint!r} must be path/in/the/source.py:function."
        raise MissingFlowError(msg)
    return load_flow_from_entrypoint(f"{os.path.join(folder, path)}:{name}")


def _folder_of(source: Any) -> str:
    if hasattr(source, "pull_code"):
        source.pull_code()
        return str(source.destination)
    if not isinstance(source, (str, os.PathLike)):
        msg = f"A source is a folder or the address of a git repository, not {repr_of(source)}."
        raise MissingFlowError(msg)
    text = os.fspath(source)
    if text.startswith(_ADDRESSES) or text.endswith(".git"):
        return _clone(text)
    folder = os.path.abspath(os.path.expanduser(text))
    if not os.path.isdir(folder):
        msg = f"There is no folder {text!r}. A repository begins with {', '.join(_ADDRESSES)}."
        raise MissingFlowError(msg)
    return folder


def _clone(address: str) -> str:
    """Return a new folder with a clone of a repository in it."""
    url, branch = _parts(address)
    folder = tempfile.mkdtemp(prefix="hpc-flows-source-")
    try:
        _git(["git", "clone", "--quiet", "--", url, folder], url)
        if branch:
            checkout = ["git", "-C", folder, "checkout", "--quiet", "--detach"]
            _git([*checkout, *_revision(folder, branch)], url)
    except BaseException:  # also Ctrl-C, where a large repository is awaited
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _parts(address: str) -> tuple[str, str]:
    """Return the address and what follows an `@` in its last part."""
    start, slash, last = address.rpartition("/")
    name, at, branch = last.partition("@")
    return (f"{start}{slash}{name}", branch) if at and slash else (address, "")


def _revision(folder: str, branch: str) -> list[str]:
    """Return how git calls a branch of the origin, a tag or a commit."""
    remote = f"origin/{branch}"
    asked = ["git", "-C", folder, "rev-parse", "--verify", "--quiet", remote]
    known = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    return [remote if known else branch]


def _git(command: list[str], url: str) -> None:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_LONGEST_CLONE,
            check=False,
        )
    except FileNotFoundError:
        msg = f"git is not installed here, and {url} is to be cloned with it."
        raise MissingFlowError(msg) from None
    except subprocess.TimeoutExpired:
        msg = f"git has not cloned {url} within {_LONGEST_CLONE} s. Clone it and give the folder."
        raise MissingFlowError(msg) from None
    if done.returncode:
        msg = f"git cannot get {url}: {done.stderr.strip()}"
        raise MissingFlowError(msg)
