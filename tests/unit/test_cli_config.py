"""`hpc-flows config`."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.cli.main import invoke

if TYPE_CHECKING:
    from pathlib import Path


def view(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert invoke(["config", "view", "--json"]) == 0
    settings: dict[str, Any] = json.loads(capsys.readouterr().out)["settings"]
    return settings


def test_a_stored_setting_is_in_force_and_says_where_it_comes_from(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["config", "set", "log_level", "debug"]) == 0
    assert view(capsys)["log_level"]["value"] == "DEBUG"
    assert view(capsys)["log_level"]["source"] == str(home / "profiles.toml")


def test_a_setting_may_be_given_with_an_equals_sign_and_its_variables_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["config", "set", "HPC_FLOWS_CLUSTER=mock"]) == 0
    assert view(capsys)["cluster"]["value"] == "mock"


def test_unset_brings_the_default_back(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["config", "set", "log_prints", "yes"])
    assert invoke(["config", "unset", "log_prints"]) == 0
    assert view(capsys)["log_prints"] == {
        **view(capsys)["log_prints"],
        "value": False,
        "source": "default",
    }


def test_the_environment_wins_and_set_warns_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOG_LEVEL", "ERROR")
    assert invoke(["config", "set", "log_level", "DEBUG"]) == 0
    assert "HPC_FLOWS_LOG_LEVEL is set in this shell and wins" in capsys.readouterr().err
    assert view(capsys)["log_level"]["source"] == "HPC_FLOWS_LOG_LEVEL"


def test_a_variable_that_is_no_setting_is_pointed_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTR", "afton")
    assert invoke(["config", "view"]) == 0
    told = capsys.readouterr().err
    assert "HPC_FLOWS_CLUSTR, which is no setting. Did you mean 'HPC_FLOWS_CLUSTER'?" in told


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["set", "log_levl", "DEBUG"], 1, "Did you mean 'log_level'?"),
        (["set", "log_level", "DEBG"], 1, "Did you mean 'DEBUG'?"),
        (["set", "task_default_retries", "many"], 1, "whole number"),
        (["set", "log_level"], 2, "Give a value"),
        (["unset", "log_levl"], 1, "Did you mean 'log_level'?"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_reason(
    arguments: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["config", *arguments]) == status
    assert told in capsys.readouterr().err


def test_the_table_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    names = list(view(capsys))
    assert invoke(["config", "view"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in names:
        assert any(line.startswith(name) for line in lines), name


def test_t5_a_key_comes_from_another_command_without_standing_in_any_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = f"hpcf_0123456789ab_{'x' * 43}"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
    assert invoke(["config", "set", "api_key=-"]) == 0
    told = capsys.readouterr()
    assert key not in told.out + told.err
    assert key in (home / "profiles.toml").read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert invoke(["config", "set", "api_key=-"]) == 1
    assert "Nothing came on standard input for api_key" in capsys.readouterr().err
    assert key in (home / "profiles.toml").read_text()
