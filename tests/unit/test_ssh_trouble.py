"""Telling from ssh's words what is wrong."""

from __future__ import annotations

import pickle

import pytest

from hpc_flows.transports.ssh_destination import Target
from hpc_flows.transports.ssh_trouble import FORBIDDEN, SshError, forward_trouble, login_trouble

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for login.hpc.edu has changed and you have requested strict checking.
Offending ED25519 key in /home/me/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f "/home/me/.ssh/known_hosts" -R "[login.hpc.edu]:2222"
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (CHANGED, "host key changed"),
        ("Host key verification failed.", "host unknown"),
        ("me@login: Permission denied (publickey,keyboard-interactive).", "needs login"),
        ("Received disconnect: 2: Too many authentication failures", "needs login"),
        ("ssh: Could not resolve hostname x: Name or service not known", "unreachable"),
        ("ssh: connect to host x port 22: Connection timed out", "unreachable"),
        ("ssh: connect to host x port 22: No route to host", "unreachable"),
        ("ssh: connect to host x port 22: Connection refused", "unreachable"),
        ("Timeout, server x not responding.", "unreachable"),
        ("Connection to x closed by remote host.", "unreachable"),
        ("kex_exchange_identification: read: Connection reset by peer", "unreachable"),
        ("something new", "other"),
        ("", "other"),
    ],
)
def test_a_login_that_fails_is_told_by_its_kind(said: str, kind: str) -> None:
    error = login_trouble(said, "login.hpc.edu")
    assert error.kind == kind
    assert "login.hpc.edu" in str(error)
    assert "{" not in str(error)


def test_a_changed_key_comes_with_the_command_that_removes_the_old_one() -> None:
    told = str(login_trouble(CHANGED, "login.hpc.edu"))
    assert '`ssh-keygen -f "/home/me/.ssh/known_hosts" -R "[login.hpc.edu]:2222"`' in told


def test_a_banner_that_speaks_of_errors_is_not_believed() -> None:
    banner = "Permission denied to all who have none.\n" * 30
    said = f"{banner}ssh: connect to host x port 22: Connection timed out\n"
    assert login_trouble(said, "x").kind == "unreachable"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("channel 1: open failed: administratively prohibited: open failed", FORBIDDEN),
        ("channel 1: open failed: connect failed: Connection refused", "no server there"),
        ("channel 1: open failed: unknown channel type: ", FORBIDDEN),
        ("remote port forwarding failed for listen path /tmp/x", FORBIDDEN),
    ],
)
def test_a_forward_that_fails_is_told_by_its_kind(said: str, kind: str) -> None:
    error = forward_trouble(said, "login", Target("127.0.0.1", 4200))
    assert error is not None
    assert error.kind == kind


def test_words_that_tell_nothing_of_a_forward_are_no_reason() -> None:
    assert forward_trouble("Welcome", "login", Target("x", 1)) is None


def test_an_error_keeps_its_kind_on_its_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(SshError("x", "needs login")))  # noqa: S301 - its own
    assert (str(error), error.kind) == ("x", "needs login")
