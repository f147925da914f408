"""Settings: from the environment, over the active profile's file, over defaults.

A setting `x` is the environment variable `HPC_FLOWS_X`, or `x = ...` under `[profiles.<name>]` in
`$HPC_FLOWS_HOME/profiles.toml`. `HPC_FLOWS_PROFILE` picks the profile; else the file's `active`.
"""

from __future__ import annotations

import os

from hpc_flows.exceptions import SettingsError, close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PREFIX = "HPC_FLOWS_"
DEFAULT_PROFILE = "default"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Setting:
    """One setting: its name, the kind of its value, its default, and what it does.

    Attributes:
        name: as in `Settings`.
        kind: `text`, `integer`, `number`, `flag` or `path`.
        default: its value when nobody sets it.
        doc: one sentence.
        choices: the values that a text may have; empty when any will do.
    """

    __slots__ = ("choices", "default", "doc", "kind", "name")

    def __init__(
        self, name: str, kind: str, default: Any, doc: str, choices: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.doc = doc
        self.choices = choices

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    def parse(self, value: Any, source: str) -> Any:
        """Return `value` as the setting's kind.

        Args:
            value: text, or what a TOML file holds.
            source: where it was found, for the error.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            parsed = _PARSERS[self.kind](value)
        except (TypeError, ValueError):
            msg = f"{source}: {self.name} must be {_KINDS[self.kind]}, not {value!r}."
            raise SettingsError(msg) from None
        if self.choices:
            return self._choice(str(parsed), source)
        return parsed

    def _choice(self, value: str, source: str) -> str:
        for choice in self.choices:
            if choice.lower() == value.lower():
                return choice
        hint = close_match(value.upper(), self.choices) or close_match(value, self.choices)
        known = ", ".join(self.choices)
        msg = f"{source}: {self.name} must be one of {known}, not {value!r}.{hint}"
        raise SettingsError(msg)


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value or None


def _integer(value: Any) -> int | None:
    if value == "":
        return None
    if isinstance(value, (bool, float)):
        raise TypeError
    number = int(value)
    if number < 0:
        raise ValueError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError
    return text in _TRUE


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    found = os.path.expanduser(value)
    if found.startswith("~"):  # no such user, or HOME is not set and the system does not know us
        msg = (
            f"The folder {value!r} cannot be found, because nothing says what '~' stands for. Set "
            f"HOME, or set HPC_FLOWS_HOME to a whole path."
        )
        raise SettingsError(msg)
    return os.path.abspath(found)


_PARSERS = {"text": _text, "integer": _integer, "number": _number, "flag": _flag, "path": _path}
_KINDS = {
    "text": "text",
    "integer": "a whole number that is not negative",
    "number": "a number that is not negative",
    "flag": "true or false",
    "path": "a path",
}

SETTINGS: tuple[Setting, ...] = (
    Setting("home", "path", "~/.hpc_flows", "Folder of runs, clusters and profiles.toml."),
    Setting("cluster", "text", None, "Cluster that tasks with resources are sent to."),
    Setting(
        "log_level",
        "text",
        "INFO",
        "Least important level that is shown and journalled.",
        ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    ),
    Setting("log_prints", "flag", False, "Whether print() in flows and tasks makes log records."),
    Setting(
        "log_output",
        "flag",
        True,
        "Whether log_prints in jobs and process pools takes all output, also of compiled code.",
    ),
    Setting(
        "logging_extra_loggers",
        "text",
        None,
        "Other loggers, separated by commas, whose records in runs are kept and shown.",
    ),
    Setting("task_default_retries", "integer", 0, "Retries of tasks that do not say."),
    Setting(
        "task_default_retry_delay_seconds",
        "number",
        0.0,
        "Seconds before a retry, for tasks that do not say.",
    ),
    Setting("flow_default_retries", "integer", 0, "Retries of flows that do not say."),
    Setting(
        "flow_default_retry_delay_seconds",
        "number",
        0.0,
        "Seconds before a retry, for flows that do not say.",
    ),
    Setting(
        "results_inline_limit",
        "integer",
        65536,
        "Largest result, in bytes, that is kept in the journal instead of a file.",
    ),
    Setting(
        "results_persist_by_default",
        "flag",
        False,
        "Whether tasks and flows that do not say keep their results for other runs.",
    ),
    Setting(
        "results_storage",
        "text",
        None,
        "Folder of results that are kept for other runs; unset takes `storage` in the home.",
    ),
    Setting(
        "results_default_serializer",
        "text",
        "pickle",
        "How results that are kept for other runs are written, unless the task or flow says.",
    ),
    Setting(
        "results_lock_seconds",
        "number",
        60.0,
        "How long the lock on a key outlives the machine whose process held it.",
    ),
    Setting("tasks_default_no_cache", "flag", False, "Whether tasks without a policy have none."),
    Setting("tasks_disable_caching", "flag", False, "Whether no task takes a kept result."),
    Setting("tasks_refresh_cache", "flag", False, "Whether tasks run though results are kept."),
    Setting(
        "journal_fsync",
        "flag",
        True,
        "Whether the journal waits for the disk; without, a power cut may lose its end.",
    ),
    Setting(
        "thread_workers",
        "integer",
        None,
        "Most tasks that run in threads at once; unset lets the runner choose.",
    ),
    Setting(
        "array_window_seconds",
        "number",
        0.05,
        "How long ready tasks are collected before they are submitted as one array.",
    ),
    Setting(
        "console_colour",
        "text",
        "auto",
        "Whether console lines are coloured; auto: on terminals.",
        ("auto", "always", "never"),
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


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

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str], profile: str) -> None:
        self.profile = profile
        self.sources = dict(sources)
        for name in _BY_NAME:
            setattr(self, name, values[name])

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {name: getattr(self, name) for name in _BY_NAME}

    def replaced(self, **changes: Any) -> Settings:
        """Return settings with some values changed, for one run."""
        for name in changes:
            find_setting(name)
        return Settings({**self.to_dict(), **changes}, self.sources, self.profile)


def find_setting(name: str) -> Setting:
    """Return the setting of that name or environment variable.

    Raises:
        SettingsError: there is none.
    """
    key = name.lower().removeprefix(PREFIX.lower())
    if key not in _BY_NAME:
        hint = close_match(key, _BY_NAME)
        msg = f"There is no setting {name!r}.{hint} `hpc-flows config view` lists them."
        raise SettingsError(msg)
    return _BY_NAME[key]


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
    environ = os.environ
    found = tuple(environ.get(setting.variable) for setting in SETTINGS)
    path = profiles_path()
    key = (*found, environ.get(PREFIX + "PROFILE"), path, _stamp(path))
    if key not in _cache:
        settings = _read(found, path)
        _cache.clear()
        _cache[key] = settings
    return _cache[key]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(found: tuple[str | None, ...], path: str) -> Settings:
    profile, stored = _active_profile(path)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, text in zip(SETTINGS, found, strict=True):
        name = setting.name
        if text is not None:
            values[name], sources[name] = setting.parse(text, setting.variable), setting.variable
        elif name in stored:
            values[name], sources[name] = setting.parse(stored[name], path), path
        else:
            default = setting.default
            values[name] = _path(default) if setting.kind == "path" else default
            sources[name] = "default"
    return Settings(values, sources, profile)


def _active_profile(path: str) -> tuple[str, dict[str, Any]]:
    """Return the active profile's name and its values by setting name."""
    data = read_profiles(path)
    wanted = os.environ.get(PREFIX + "PROFILE")
    active = wanted or data["active"]
    profiles = data["profiles"]
    if active not in profiles:
        if active == DEFAULT_PROFILE:
            return active, {}
        source = PREFIX + "PROFILE" if wanted else path
        msg = f"{source}: there is no profile {active!r} in {path}.{close_match(active, profiles)}"
        raise SettingsError(msg)
    return active, {find_setting(name).name: value for name, value in profiles[active].items()}


def profiles_path() -> str:
    """Return the path of the profiles file."""
    home = os.environ.get(PREFIX + "HOME") or "~/.hpc_flows"
    return os.path.join(_path(home), "profiles.toml")


def read_profiles(path: str | None = None) -> dict[str, Any]:
    """Return `{"active": name, "profiles": {name: {setting: value}}}` of the profiles file.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = path or profiles_path()
    if not os.path.exists(path):
        return {"active": DEFAULT_PROFILE, "profiles": {}}
    import tomllib  # noqa: PLC0415 - only where there is a file

    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (OSError, ValueError) as error:
        msg = f"The profiles file {path} cannot be read: {error}. Mend it or move it away."
        raise SettingsError(msg) from error
    profiles = data.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(v, dict) for v in profiles.values()):
        msg = f"{path}: settings belong under [profiles.<name>]."
        raise SettingsError(msg)
    return {"active": str(data.get("active", DEFAULT_PROFILE)), "profiles": profiles}


def write_profiles(data: Mapping[str, Any]) -> None:
    """Write the profiles file; it appears whole or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    path = profiles_path()
    lines = [f"active = {_toml(data['active'])}"]
    for name, values in data["profiles"].items():
        lines.append(f"\n[profiles.{_toml(name)}]")
        lines.extend(f"{key} = {_toml(value)}" for key, value in values.items())
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        msg = f"The profiles file {path} cannot be written: {error}. Is HPC_FLOWS_HOME right?"
        raise SettingsError(msg) from error


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    import json  # noqa: PLC0415 - a JSON text is a TOML text, once DEL is escaped too

    return json.dumps(str(value)).replace("\x7f", "\\u007f")


def set_setting(name: str, value: str) -> Any:
    """Store a setting in the active profile and return the value as it was read.

    Raises:
        SettingsError: no such setting, or the value is wrong.
    """
    setting = _storable(name)
    parsed = setting.parse(value, f"{setting.name}={value}")
    if parsed is None:
        unset_setting(name)
        return None
    data, stored = _stored_values()
    stored[setting.name] = parsed
    write_profiles(data)
    return parsed


def unset_setting(name: str) -> bool:
    """Remove a setting from the active profile; return whether it was there.

    Raises:
        SettingsError: no such setting.
    """
    setting = _storable(name)
    data, stored = _stored_values()
    found = stored.pop(setting.name, None) is not None
    if found:
        write_profiles(data)
    return found


def _storable(name: str) -> Setting:
    setting = find_setting(name)
    if setting.name == "home":
        msg = f"home is where the profiles file lies; set {setting.variable} in the environment."
        raise SettingsError(msg)
    return setting


def _stored_values() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the whole profiles file and the part of it that is the active profile."""
    data = read_profiles()
    active, values = _active_profile(profiles_path())
    data["profiles"][active] = values
    return data, values


def data_dir(name: str) -> str:
    """Return the folder of shipped files of that name, such as `profiles`.

    It lies inside the package in a wheel, and beside it in a checkout.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shipped = os.path.join(package, "_data", name)
    return shipped if os.path.isdir(shipped) else os.path.join(os.path.dirname(package), name)


def __getattr__(name: str) -> Any:
    if name != "temporary_settings" and not name.startswith("PREFECT_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Few need it; and it is made of what stands here.
    return __import__(f"{__name__}.temporary", fromlist=["named"]).named(name)
