"""One function says which server is asked, and with which token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings.endpoint import Endpoint, find_endpoint

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:4300"


def _server(home: Path, **changes: Any) -> Path:
    """Leave what a running server of this machine leaves: this process stands for it."""
    folder = home / "server"
    folder.mkdir(parents=True)
    about = {"url": URL, "instance": "i1", "pid": os.getpid(), "host": os.uname().nodename}
    (folder / "endpoint.json").write_text(json.dumps(about | changes))
    token = folder / "token"
    token.write_text("hpcf_local_token\n")
    token.chmod(0o600)
    return folder


def test_without_a_server_there_is_no_endpoint() -> None:
    assert find_endpoint() is None


def test_a_server_of_this_machine_is_found_with_its_token(home: Path) -> None:
    folder = _server(home)
    assert find_endpoint() == Endpoint(URL, "hpcf_local_token", str(folder / "endpoint.json"), "i1")


def test_what_is_configured_wins_over_the_server_of_this_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _server(home)
    (home / "profiles.toml").write_text(
        '[profiles.default]\napi_url = "http://of-profile"\napi_key = "hpcf_profile"\n'
    )
    found = find_endpoint()
    assert found is not None
    assert found[:2] == ("http://of-profile", "hpcf_profile")
    monkeypatch.setenv("HPC_FLOWS_API_URL", "http://of-environment")
    assert find_endpoint() == Endpoint("http://of-environment", "hpcf_profile", "HPC_FLOWS_API_URL")


def test_the_token_of_this_machines_server_goes_to_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _server(home)
    monkeypatch.setenv("HPC_FLOWS_API_URL", "http://elsewhere")
    assert find_endpoint() == Endpoint("http://elsewhere", None, "HPC_FLOWS_API_URL")
    monkeypatch.setenv("HPC_FLOWS_API_URL", URL)
    assert find_endpoint() == Endpoint(URL, "hpcf_local_token", "HPC_FLOWS_API_URL", "i1")


def test_a_server_that_has_ended_or_runs_on_another_machine_is_none_of_ours(home: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    folder = _server(home, pid=ended.pid)
    assert find_endpoint() is None
    (folder / "endpoint.json").write_text(
        json.dumps({"url": URL, "pid": os.getpid(), "host": "another-login-node"})
    )
    assert find_endpoint() is None


def test_a_token_that_others_can_read_is_refused(home: Path) -> None:
    token = _server(home) / "token"
    token.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        find_endpoint()


def test_a_broken_file_is_named(home: Path) -> None:
    path = _server(home) / "endpoint.json"
    path.write_text("{")
    with pytest.raises(SettingsError, match=rf"{path} cannot be read"):
        find_endpoint()


def test_a_server_without_a_token_takes_the_key_that_is_set(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_server(home) / "token").unlink()
    monkeypatch.setenv("HPC_FLOWS_API_KEY", "hpcf_mine")
    found = find_endpoint()
    assert found is not None
    assert found[:2] == (URL, "hpcf_mine")
