"""The transport to this machine, beyond the rules that all transports keep."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hpc_flows.exceptions import CommandNotFound, CommandTimedOut, TransportError
from hpc_flows.transports.local import LocalTransport


def test_a_missing_command_is_told_with_the_path_that_was_searched() -> None:
    with pytest.raises(CommandNotFound) as caught:
        LocalTransport().run(["sbatch-of-nowhere"], env={"PATH": "/opt/slurm/bin:/bin"})
    assert "sbatch-of-nowhere" in str(caught.value)
    assert "/opt/slurm/bin:/bin" in str(caught.value)
    assert "module load" in str(caught.value)


def test_a_command_is_looked_for_on_the_path_that_it_is_given(tmp_path: Path) -> None:
    program = tmp_path / "sbatch"
    program.write_text("#!/bin/sh\necho found here\n")
    program.chmod(0o755)
    done = LocalTransport().run(["sbatch"], env={"PATH": f"{tmp_path}:/bin"})
    assert done.stdout == "found here\n"


def test_a_file_that_may_not_be_run_is_not_a_command(tmp_path: Path) -> None:
    program = tmp_path / "sbatch"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(CommandNotFound, match="may not be run"):
        LocalTransport().run([str(program)])


def test_a_program_with_a_missing_interpreter_is_an_error_of_ours(tmp_path: Path) -> None:
    program = tmp_path / "wrapper"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(TransportError, match="cannot be run"):
        LocalTransport().run([str(program)])


def _cut(script: str, folder: Path) -> str:
    """Run a script that is cut once its child has said that it is there; return the error."""
    seconds = 0.5
    while True:
        with pytest.raises(CommandTimedOut) as caught:
            LocalTransport().run(["/bin/sh", "-c", script], cwd=str(folder), timeout=seconds)
        if (folder / "child").exists():
            return str(caught.value)
        seconds *= 3  # a slow machine does not begin within that time


def test_a_command_that_is_cut_takes_its_children_along(tmp_path: Path) -> None:
    script = "sleep 600 & echo began; echo $! > part; mv part child; wait"
    assert "began" in _cut(script, tmp_path)
    _await_end(int((tmp_path / "child").read_text()))


def test_a_child_that_escapes_with_the_pipe_does_not_keep_a_cut_command_alive(
    tmp_path: Path,
) -> None:
    script = "setsid sh -c 'echo $$ > part; mv part child; exec sleep 600' & sleep 600"
    _cut(script, tmp_path)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_command_is_out_of_reach_of_the_terminals_interrupt() -> None:
    probe = "import os; print(os.getpgid(0) == os.getpid())"
    done = LocalTransport().run([sys.executable, "-c", probe])
    assert done.stdout == "True\n"


def test_a_command_does_not_read_our_standard_input() -> None:
    assert LocalTransport().run(["cat"]).stdout == ""


def test_the_environment_is_a_copy() -> None:
    transport = LocalTransport()
    transport.environment()["PATH"] = "/nowhere"
    assert os.environ["PATH"] != "/nowhere"


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(TransportError, match="cannot be written"):
        LocalTransport().write(str(target), b"content")
    assert list(tmp_path.iterdir()) == [target]


def _await_end(pid: int) -> None:
    # A killed orphan belongs to init, or to another reaper, until that one looks.
    for _ in range(3000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")
