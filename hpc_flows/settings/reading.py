"""Settings as the environment and the profiles file have them."""

from __future__ import annotations

import os

from hpc_flows.settings.kinds import PREFIX, whole_path
from hpc_flows.settings.known import SETTINGS
from hpc_flows.settings.profiles import active_profile, profiles_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.settings.kinds import Setting

    #: Values by name, where each came from, and the profile's name.
    Found = tuple[dict[str, Any], dict[str, str], str]

#: The variables that are looked at, each with those of other programs after it.
_VARIABLES = tuple((setting, setting.variable, setting.also) for setting in SETTINGS)
_NAMES = tuple(
    name for _, variable, also in _VARIABLES for name in (variable, also) if name is not None
)


def fingerprint() -> tuple[Any, ...]:
    """Return what changes when the settings may have changed: variables, and the file's stamp."""
    get = os.environ.get
    path = profiles_path()
    return (*map(get, _NAMES), get(PREFIX + "PROFILE"), path, _stamp(path))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read() -> Found:
    """Return the values of all settings, where each came from, and the active profile's name.

    Raises:
        SettingsError: a value, a name or the profiles file is wrong.
    """
    path = profiles_path()
    profile, stored = active_profile(path)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, variable, also in _VARIABLES:
        name = setting.name
        found = _in_environment(variable, also)
        if found is not None:
            values[name], sources[name] = setting.parse(found[1], found[0]), found[0]
        elif name in stored:
            values[name], sources[name] = setting.parse(stored[name], path), path
        else:
            values[name], sources[name] = _default(setting), "default"
    return values, sources, profile


def _in_environment(variable: str, also: str | None) -> tuple[str, str] | None:
    """Return the name and the text of the variable that sets it."""
    for name in (variable, also):
        if name is not None and (text := os.environ.get(name)) is not None:
            return name, text
    return None


def _default(setting: Setting) -> Any:
    return whole_path(setting.default) if setting.kind == "path" else setting.default
