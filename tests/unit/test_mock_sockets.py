"""Where a mock cluster's controller listens, who may listen there, and what is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows import mock_cluster

OPTIONS = mock_cluster.StartOptions(timings=dict(mock_site.QUICK))


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Return a home whose path is too long for a Unix socket."""
    return tmp_path / ("long-" * 30)


def kill_controller(site: MockSite) -> None:
    found = mock_cluster.status(site.home, "m")
    assert found is not None
    os.kill(found["pid"], signal.SIGKILL)
    site.until(lambda: mock_cluster.status(site.home, "m"), "None")


def test_a_home_with_a_long_path_works(deep: Path) -> None:
    with mock_site.running(deep) as site:
        job = site.submit("-o /dev/null --wrap true")
        site.wait(job, "COMPLETED")
        where = mock_cluster.paths(deep, "m")
        assert len(os.fsencode(where.socket)) < 108
        assert where.socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_short_folder_for_the_socket_goes_with_the_controller_and_comes_with_the_next(
    deep: Path,
) -> None:
    with mock_site.running(deep) as site:
        short = mock_cluster.paths(deep, "m").socket.parent
        assert short.is_dir()
    assert not short.exists()
    assert "Unable to contact" in site.run("squeue -h").err
    with mock_site.running(deep) as again:
        assert mock_cluster.paths(deep, "m").socket.parent == short
        assert again.out("squeue -h") == ""
    assert not short.exists()


def test_what_a_killed_controller_left_is_used_by_the_next_and_removed_by_stop(deep: Path) -> None:
    with mock_site.running(deep) as site:
        short = mock_cluster.paths(deep, "m").socket.parent
        kill_controller(site)
        assert mock_cluster.start(deep, "m", OPTIONS).started
        assert mock_cluster.paths(deep, "m").socket.parent == short
        assert site.out("squeue -h") == ""
        kill_controller(site)
        assert short.is_dir()
        assert mock_cluster.stop(deep, "m") is False
        assert not short.exists()


@pytest.mark.parametrize("what", ["open folder", "link"])
def test_a_folder_that_others_made_in_the_place_of_ours_is_not_used(
    deep: Path, tmp_path: Path, what: str
) -> None:
    with mock_site.running(deep):
        old = mock_cluster.paths(deep, "m").socket.parent
    if what == "link":
        old.symlink_to(tmp_path)
    else:
        old.mkdir()
        old.chmod(0o755)
    try:
        with mock_site.running(deep) as site:
            fresh = mock_cluster.paths(deep, "m").socket.parent
            assert fresh != old
            assert fresh.stat().st_mode & 0o777 == 0o700
            assert site.out("squeue -h") == ""
        assert not fresh.exists()
    finally:
        old.unlink() if what == "link" else old.rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root's commands trust everybody's controller")
def test_a_command_tells_nothing_to_a_stranger_who_listens(deep: Path) -> None:
    """The stranger is the command: it believes to be another user than who listens."""
    with mock_site.running(deep) as site:
        command = site.info.bin / "squeue"
        text = command.read_text()
        lie = "import posix; posix.geteuid = lambda: 12345\n"
        command.write_text(text.replace("from mock_client", f"{lie}from mock_client", 1))
        assert "Unable to contact" in site.run("squeue -h").err
        command.write_text(text)
        assert site.out("squeue -h") == ""


def test_a_controller_whose_folder_was_removed_ends_and_leaves_nothing(deep: Path) -> None:
    with mock_site.running(deep) as site:
        short = mock_cluster.paths(deep, "m").socket.parent
    code = (
        "import sys\nfrom hpc_flows.mock_cluster import daemon, service\n"
        "service._LOOK_AROUND = 0.1\nsys.exit(daemon.main(sys.argv[1:]))\n"
    )
    short.mkdir(0o700)
    ready, word = os.pipe()
    argv = [sys.executable, "-c", code, str(site.info.folder), str(word)]
    with subprocess.Popen(argv, pass_fds=[word]) as controller:
        os.close(word)
        with os.fdopen(ready) as pipe:
            assert pipe.read().startswith("ready")
        assert (short / "socket").is_socket()
        shutil.rmtree(site.info.folder)
        assert controller.wait(mock_site.PATIENCE) == 0
    assert not short.exists()


def test_a_plain_socket_goes_with_the_controller_too() -> None:
    # Not in tmp_path: where that is long, the socket is put elsewhere.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        home = Path(short)
        with mock_site.running(home):
            path = mock_cluster.paths(home, "m").socket
            assert path.is_relative_to(home)
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(path))
        assert not path.exists()
