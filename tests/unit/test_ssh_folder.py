"""The private folder for sockets."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from hpc_flows.exceptions import TransportError
from hpc_flows.transports import ssh_folder
from hpc_flows.transports.ssh_folder import LONGEST, fresh_path, socket_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    # pytest's own paths are too long for sockets, which is not what is tried here.
    monkeypatch.setattr(ssh_folder, "LONGEST", 400)
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_it_is_private_even_if_it_was_not(runtime: Path) -> None:
    (runtime / "hpc-flows").mkdir(mode=0o755)
    folder = socket_folder()
    assert folder == str(runtime / "hpc-flows")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_a_link_in_its_place_is_not_followed(runtime: Path) -> None:
    (runtime / "elsewhere").mkdir()
    (runtime / "hpc-flows").symlink_to(runtime / "elsewhere")
    with pytest.raises(TransportError, match="somebody else"):
        socket_folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to give a folder away")
def test_a_folder_of_somebody_else_is_refused(runtime: Path) -> None:
    folder = runtime / "hpc-flows"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(TransportError, match="XDG_RUNTIME_DIR"):
        socket_folder()


@pytest.mark.parametrize("bad", ["long", "missing", "open", "odd"])
def test_a_runtime_folder_that_will_not_do_is_passed_over(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    if bad == "long":
        monkeypatch.setattr(ssh_folder, "LONGEST", LONGEST)
    elif bad == "missing":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "gone"))
    elif bad == "open":
        runtime.chmod(0o777)
    else:
        odd = runtime / "a:b %d"
        odd.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))
    monkeypatch.setattr(ssh_folder, "_private", lambda folder: folder)
    assert socket_folder() == f"/tmp/hf-{os.getuid()}"


def test_names_are_fresh_and_short_enough_for_ssh() -> None:
    folder = f"/tmp/hf-{os.getuid()}"
    names = {fresh_path("t", folder) for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) + 17 < 108
