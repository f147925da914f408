"""The rules of `hpc_flows.transports.base`, held by every transport."""

from __future__ import annotations

import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from services.sshd import Sshd
from slurm_site.processes import program_of

from hpc_flows.exceptions import CommandNotFound, CommandTimedOut, TransportError
from hpc_flows.transports.local import LocalTransport
from hpc_flows.transports.openssh import OpenSshTransport
from hpc_flows.transports.ssh_destination import Destination, SshOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.transports.base import Transport

TRANSPORTS = [
    "local",
    pytest.param("openssh", marks=pytest.mark.services),
    pytest.param("paramiko", marks=pytest.mark.services),
]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    with ExitStack() as stack:
        yield _open(request.param, stack)


def _open(name: str, stack: ExitStack) -> Transport:
    if name == "local":
        return stack.enter_context(LocalTransport())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hf-ssh-", dir="/tmp")))
    (folder / "banner").write_text("Unauthorised use is prohibited.\n")
    server = stack.enter_context(Sshd(folder / "sshd", Banner=str(folder / "banner")))
    options = SshOptions(config=str(server.config))
    return stack.enter_context(_over_ssh(name, Destination(server.host), options))


def _over_ssh(name: str, destination: Destination, options: SshOptions) -> Transport:
    if name == "openssh":
        return OpenSshTransport(destination, options)
    pytest.importorskip("paramiko")
    from hpc_flows.transports.paramiko.transport import ParamikoTransport

    return ParamikoTransport(destination, options)


def test_arguments_arrive_as_they_were_given(transport: Transport) -> None:
    arguments = ["two words", "$HOME", "a'b\"c", "*", "", "back\\slash", "new\nline", "é%s"]
    done = transport.run(["printf", "%s\\0", *arguments])
    assert done.stdout.split("\0")[:-1] == arguments


def test_what_a_command_prints_is_kept_apart(transport: Transport) -> None:
    done = transport.run(["/bin/sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)


def test_a_command_that_fails_returns_its_status(transport: Transport) -> None:
    assert transport.run(["/bin/sh", "-c", "exit 7"]).returncode == 7


def test_a_command_that_a_signal_ended_returns_no_success(transport: Transport) -> None:
    assert transport.run(["/bin/sh", "-c", "kill -9 $$"]).returncode != 0


def test_standard_input_is_given(transport: Transport) -> None:
    text = "x" * 300_000 + "é"
    assert transport.run(["cat"], stdin=text).stdout == text


def test_bytes_that_are_no_text_do_not_hide_the_rest(transport: Transport) -> None:
    done = transport.run(["printf", "351\\n\\377"])
    assert done.stdout.startswith("351\n")


def test_the_environment_is_the_one_that_was_given(transport: Transport) -> None:
    done = transport.run(["env"], env={"PATH": "/usr/bin:/bin", "ONLY": "this one"})
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert {"PATH", "ONLY"} <= names
    assert "HOME" not in names


def test_the_transports_own_environment_is_used_otherwise(transport: Transport) -> None:
    assert transport.environment()["PATH"]
    assert transport.run(["/bin/sh", "-c", 'test -n "$PATH"']).returncode == 0


def test_a_command_runs_where_it_is_told(transport: Transport, tmp_path: Path) -> None:
    folder = tmp_path / "with blanks"
    folder.mkdir()
    assert transport.run(["pwd"], cwd=str(folder)).stdout == f"{folder}\n"


def test_a_folder_that_is_missing_is_told(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="nowhere"):
        transport.run(["pwd"], cwd=str(tmp_path / "nowhere"))


def test_a_missing_command_is_told_apart(transport: Transport) -> None:
    with pytest.raises(CommandNotFound, match="no-such-command"):
        transport.run(["no-such-command"])


def test_a_command_that_takes_too_long_is_cut(transport: Transport) -> None:
    with pytest.raises(CommandTimedOut, match="sleep"):
        transport.run(["sleep", "60"], timeout=0.3)


def test_a_file_is_written_and_read(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    transport.write(str(path), b"#!/bin/sh\n\x00\xff")
    assert transport.read(str(path)) == b"#!/bin/sh\n\x00\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    transport.write(str(path), b"again", mode=0o755)
    assert transport.read(str(path)) == b"again"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_write_leaves_no_other_file(transport: Transport, tmp_path: Path) -> None:
    transport.write(str(tmp_path / "one"), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_reader_of_the_old_file_is_not_disturbed(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "file"
    transport.write(str(path), b"old")
    with path.open("rb") as reader:
        transport.write(str(path), b"new content")
        assert reader.read() == b"old"


def test_a_missing_file_is_told_apart(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        transport.read(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        transport.write(str(tmp_path / "no folder" / "file"), b"")


def test_what_is_no_file_cannot_be_read(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot be read"):
        transport.read(str(tmp_path))


def test_closing_twice_is_nothing(transport: Transport) -> None:
    transport.close()
    transport.close()


@pytest.mark.slurm
def test_a_full_disk_leaves_the_old_file(transport: Transport, slurm_site: object) -> None:
    with slurm_site.small_disk(1) as folder:  # type: ignore[attr-defined] # of a plugin
        path = folder / "file"
        transport.write(str(path), b"old")
        with pytest.raises(TransportError, match="still stands"):
            transport.write(str(path), b"x" * 2_000_000)
        assert transport.read(str(path)) == b"old"
        assert [found.name for found in folder.iterdir()] == ["file"]


def test_a_whole_environment_is_all_there_is(transport: Transport) -> None:
    odd = {"PATH": "/usr/bin:/bin", "ODD": "a\nexport HOME='/x' \"$(id)\" é"}
    done = transport.run(["env", "-0"], env=odd)
    found = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert {name: found[name] for name in odd} == odd
    assert set(found) - set(odd) <= {"PWD", "SHLVL", "_", "OLDPWD"}  # a shell's own


def test_a_command_that_fails_as_ssh_does_is_no_broken_connection(transport: Transport) -> None:
    assert transport.run(["/bin/sh", "-c", "exit 255"]).returncode == 255


def test_what_runs_too_long_is_ended_with_its_children(
    transport: Transport, tmp_path: Path
) -> None:
    children = tmp_path / "children"
    script = f"sleep 300 & echo $! >> {children}; sleep 300 & echo $! >> {children}; wait"
    seconds = 0.7
    while not children.exists():  # a slow machine does not begin within that time
        with pytest.raises(CommandTimedOut):
            transport.run(["/bin/sh", "-c", script], timeout=seconds)
        seconds *= 3
    give_up = time.monotonic() + 150
    for child in map(int, children.read_text().split()):
        while program_of(child) is not None:
            assert time.monotonic() < give_up, f"process {child} still runs"
            time.sleep(0.05)


def test_many_commands_at_once_are_run(transport: Transport) -> None:
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: transport.run(["echo", str(n)]).stdout, range(20)))
    assert done == [f"{n}\n" for n in range(20)]
