"""What tests of flows need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpc_flows import flow
from hpc_flows.exceptions import SettingsError
from hpc_flows.settings import get_settings, temporary_settings
from hpc_flows.testing.utilities import exceptions_equal, prefect_test_harness, test_harness


def test_flows_have_a_home_of_their_own_for_a_while(home: Path) -> None:
    with temporary_settings(cluster="nowhere"):
        with prefect_test_harness() as path:
            assert get_settings().home == path
            assert get_settings().cluster is None
            flow(lambda: 1)()
            assert len(list(Path(path, "runs").iterdir())) == 1
        assert get_settings().cluster == "nowhere"
    assert not Path(path).exists()
    assert not (home / "runs").exists()
    assert get_settings().home == str(home)


def test_a_server_that_is_not_started_starts_in_time() -> None:
    with prefect_test_harness(server_startup_timeout=30) as home:
        assert Path(home).is_dir()


def test_a_home_can_be_kept_to_look_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with test_harness(keep=True) as path:
        pass
    assert Path(path).is_dir()


def test_settings_have_other_values_for_a_while() -> None:
    def retries() -> int:
        return get_settings().task_default_retries

    with temporary_settings(task_default_retries=2):
        assert retries() == 2
        with temporary_settings(task_default_retries=None):
            assert retries() == 0
    assert retries() == 0
    assert "HPC_FLOWS_TASK_DEFAULT_RETRIES" not in os.environ
    with (
        pytest.raises(SettingsError, match="Did you mean 'task_default_retries'"),
        temporary_settings(task_default_retrys=1),
    ):
        pass


def test_settings_are_known_by_prefects_names_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.settings import PREFECT_LOCAL_STORAGE_PATH

    updates = {
        PREFECT_LOCAL_STORAGE_PATH: tmp_path / "kept",
        "tasks.refresh_cache": True,
        "PREFECT_LOGGING_LEVEL": "error",
        "thread_workers": 3,
    }
    with temporary_settings(
        updates, set_defaults={"log_prints": True, "log_level": "DEBUG"}
    ) as now:
        assert (now.results_storage, now.tasks_refresh_cache) == (str(tmp_path / "kept"), True)
        assert (now.log_level, now.thread_workers, now.log_prints) == ("ERROR", 3, True)
        with temporary_settings(restore_defaults=["thread_workers", "log_prints"]) as inner:
            assert (inner.thread_workers, inner.log_prints) == (None, False)
            assert inner.log_level == "ERROR"
    assert get_settings().results_storage is None
    monkeypatch.setenv("HPC_FLOWS_LOG_PRINTS", "true")
    with temporary_settings(set_defaults={"log_prints": False}) as now:
        assert now.log_prints


def test_a_setting_of_prefects_without_a_meaning_here_is_refused() -> None:
    with (
        pytest.raises(SettingsError, match="PREFECT_CLOUD_API_URL has no meaning here"),
        temporary_settings({"PREFECT_CLOUD_API_URL": "http://somewhere"}),
    ):
        pass
    with pytest.raises(ImportError, match="PREFECT_CLOUD_API_URL"):
        from hpc_flows.settings import PREFECT_CLOUD_API_URL  # noqa: F401


def test_exceptions_are_compared_by_type_and_arguments() -> None:
    assert exceptions_equal(ValueError("a"), ValueError("a"))
    assert not exceptions_equal(ValueError("a"), ValueError("b"))
    assert not exceptions_equal(ValueError("a"), TypeError("a"))
    assert exceptions_equal(None, None)
    assert not exceptions_equal(None, ValueError())
