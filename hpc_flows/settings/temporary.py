"""Settings that have other values for the length of a `with` block, and Prefect's names of them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.settings import get_settings
from hpc_flows.settings.kinds import Setting
from hpc_flows.settings.known import find_setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hpc_flows.settings import Settings

#: Settings of Prefect that mean the same here, by their variables without PREFECT_.
PREFECT_NAMES = {
    "API_AUTH_STRING": "prefect_api_auth_string",
    "API_KEY": "prefect_api_key",
    "API_URL": "prefect_api_url",
    "HOME": "home",
    "FLOWS_DEFAULT_RETRIES": "flow_default_retries",
    "FLOWS_DEFAULT_RETRY_DELAY_SECONDS": "flow_default_retry_delay_seconds",
    "FLOW_DEFAULT_RETRIES": "flow_default_retries",
    "FLOW_DEFAULT_RETRY_DELAY_SECONDS": "flow_default_retry_delay_seconds",
    "LOCAL_STORAGE_PATH": "results_storage",
    "LOGGING_EXTRA_LOGGERS": "logging_extra_loggers",
    "LOGGING_LEVEL": "log_level",
    "LOGGING_LOG_PRINTS": "log_prints",
    "RESULTS_DEFAULT_SERIALIZER": "results_default_serializer",
    "RESULTS_LOCAL_STORAGE_PATH": "results_storage",
    "RESULTS_PERSIST_BY_DEFAULT": "results_persist_by_default",
    "TASKS_DEFAULT_NO_CACHE": "tasks_default_no_cache",
    "TASKS_DEFAULT_RETRIES": "task_default_retries",
    "TASKS_DEFAULT_RETRY_DELAY_SECONDS": "task_default_retry_delay_seconds",
    "TASKS_DISABLE_CACHING": "tasks_disable_caching",
    "TASKS_REFRESH_CACHE": "tasks_refresh_cache",
    "TASKS_RUNNER_THREAD_POOL_MAX_WORKERS": "thread_workers",
    "TASK_DEFAULT_RETRIES": "task_default_retries",
    "TASK_DEFAULT_RETRY_DELAY_SECONDS": "task_default_retry_delay_seconds",
}


@contextmanager
def temporary_settings(
    updates: Mapping[Any, Any] | None = None,
    set_defaults: Mapping[Any, Any] | None = None,
    restore_defaults: Iterable[Any] | None = None,
    **values: Any,
) -> Iterator[Settings]:
    """Give settings other values for the length of a `with` block, and yield them all.

    Settings are named as here (`results_storage`), by their variables, or as in Prefect
    (`PREFECT_LOCAL_STORAGE_PATH` or `results.local_storage_path`), where that means the same.

    Args:
        updates: values by the settings' names; None stands for the default.
        set_defaults: values for those of these settings that nobody has set.
        restore_defaults: settings that are to have their defaults.
        **values: as `updates`, such as `task_default_retries=2`.

    Raises:
        SettingsError: there is no such setting.
    """
    changes = dict.fromkeys(map(setting_of, restore_defaults or ()))
    sources = get_settings().sources
    for key, value in (set_defaults or {}).items():
        setting = setting_of(key)
        if sources[setting.name] == "default" or setting in changes:
            changes[setting] = value
    changes.update({setting_of(key): value for key, value in {**(updates or {}), **values}.items()})
    with environment({setting.variable: _text(setting, new) for setting, new in changes.items()}):
        yield get_settings()


def setting_of(key: Any) -> Setting:
    """Return the setting that is meant by a setting, its name, or Prefect's name of it.

    Raises:
        SettingsError: there is none.
    """
    if isinstance(key, Setting):
        return key
    theirs = key.upper().replace(".", "_").removeprefix("PREFECT_")
    if theirs in PREFECT_NAMES and (key.startswith("PREFECT_") or "." in key):
        return find_setting(PREFECT_NAMES[theirs])
    if key.startswith("PREFECT_"):
        hint = close_match(theirs, PREFECT_NAMES)
        msg = f"{key} has no meaning here.{hint} `hpc-flows config view` lists the settings."
        raise SettingsError(msg)
    return find_setting(key)


def named(name: str) -> Any:
    """Return what `hpc_flows.settings` has by a name of Prefect's.

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name == "temporary_settings":
        return temporary_settings
    try:
        return setting_of(name)
    except SettingsError as error:
        raise AttributeError(str(error)) from None


def _text(setting: Setting, value: Any) -> str:
    value = setting.default if value is None else value
    return "" if value is None else str(value)


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment, or take them away, for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in changes}
    _put(changes)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
