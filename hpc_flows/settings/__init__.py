"""Settings: from the environment, over the active profile's file, over defaults.

A setting `x` is the environment variable `HPC_FLOWS_X`, or `x = ...` under `[profiles.<name>]` in
`$HPC_FLOWS_HOME/profiles.toml`. `HPC_FLOWS_PROFILE` picks the profile; else the file's `active`.

A job is handed its run's settings and reads none: what there are (`known`) and where they stand
(`reading`, `profiles`) is loaded by those who ask.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hpc_flows.settings.kinds import PREFIX as PREFIX
    from hpc_flows.settings.kinds import Setting as Setting
    from hpc_flows.settings.known import SETTINGS as SETTINGS
    from hpc_flows.settings.known import find_setting as find_setting
    from hpc_flows.settings.profiles import profiles_path as profiles_path
    from hpc_flows.settings.profiles import read_profiles as read_profiles
    from hpc_flows.settings.profiles import set_setting as set_setting
    from hpc_flows.settings.profiles import unset_setting as unset_setting
    from hpc_flows.settings.temporary import temporary_settings as temporary_settings

#: Settings that stay in the process that read them; `known` marks the same, or has a password.
SECRET = frozenset({"api_key", "prefect_api_key", "prefect_api_auth_string", "server_database"})

#: Names that are had from here, by the modules that define them.
_LATE = {
    "PREFIX": "kinds",
    "Setting": "kinds",
    "SETTINGS": "known",
    "find_setting": "known",
    "profiles_path": "profiles",
    "read_profiles": "profiles",
    "set_setting": "profiles",
    "unset_setting": "profiles",
}


class Settings:
    """The values of all settings, and where each came from.

    Attributes:
        profile: name of the active profile.
        sources: for each setting `default`, the profiles file or the environment variable.
    """

    home: str
    cluster: str | None
    log_level: str
    log_prints: bool
    log_output: bool
    logging_extra_loggers: str | None
    task_default_retries: int
    task_default_retry_delay_seconds: float
    flow_default_retries: int
    flow_default_retry_delay_seconds: float
    results_inline_limit: int
    results_persist_by_default: bool
    results_storage: str | None
    results_default_serializer: str
    results_lock_seconds: float
    tasks_default_no_cache: bool
    tasks_disable_caching: bool
    tasks_refresh_cache: bool
    journal_fsync: bool
    thread_workers: int | None
    array_window_seconds: float
    console_colour: str
    api_url: str | None
    api_key: str | None
    report: str
    ssh_client: str
    ssh_config: str | None
    prefect_api_url: str | None
    prefect_api_key: str | None
    prefect_api_auth_string: str | None
    report_file: str | None
    server_database: str | None
    server_retention_days: int | None

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str], profile: str) -> None:
        self.profile = profile
        self.sources = dict(sources)
        for name in _NAMES:
            setattr(self, name, values[name])

    def to_dict(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the values by name; those of secrets are None unless asked for."""
        return {
            name: getattr(self, name) if secrets or name not in SECRET else None for name in _NAMES
        }

    def secrets(self) -> list[str]:
        """Return the secrets that are set: texts that are to be seen nowhere."""
        return [value for name in sorted(SECRET) if (value := getattr(self, name))]

    def replaced(self, **changes: Any) -> Settings:
        """Return settings with some values changed, for one run.

        Raises:
            SettingsError: there is no such setting.
        """
        for name in changes:
            _late("find_setting")(name)
        return Settings({**self.to_dict(secrets=True), **changes}, self.sources, self.profile)

    def __getstate__(self) -> dict[str, Any]:
        """Leave secrets out: what is pickled lies in files that nodes read."""
        return {"profile": self.profile, "sources": self.sources, **self.to_dict()}

    def __repr__(self) -> str:
        """Name the profile; values are asked for by name."""
        return f"<Settings of profile {self.profile!r}>"


_NAMES = tuple(name for name in Settings.__annotations__ if not name.startswith("_"))


_cache: dict[tuple[Any, ...], Settings] = {}


_adopted: list[Settings] = []


def adopt(settings: Settings) -> None:
    """Make these the settings in force in this process: a job, whose run was started with them.

    Its environment need not have them, and its home may be another one.
    """
    _adopted[:] = [settings]


def get_settings() -> Settings:
    """Return the settings in force now.

    Raises:
        SettingsError: a value, a name or the profiles file is wrong.
    """
    if _adopted:
        return _adopted[0]
    from hpc_flows.settings import reading  # noqa: PLC0415 - jobs are handed theirs

    key = reading.fingerprint()
    if key not in _cache:
        settings = Settings(*reading.read())
        _cache.clear()
        _cache[key] = settings
    return _cache[key]


def data_dir(name: str) -> str:
    """Return the folder of shipped files of that name, such as `profiles`.

    It lies inside the package in a wheel, and beside it in a checkout.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shipped = os.path.join(package, "_data", name)
    return shipped if os.path.isdir(shipped) else os.path.join(os.path.dirname(package), name)


def _late(name: str) -> Any:
    return getattr(__import__(f"{__name__}.{_LATE[name]}", fromlist=[name]), name)


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return _late(name)
    if name != "temporary_settings" and not name.startswith("PREFECT_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Few need it; and it is made of what stands here.
    return __import__(f"{__name__}.temporary", fromlist=["named"]).named(name)
