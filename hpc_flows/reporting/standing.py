"""How relays stand: one small file each, for `hpc-flows relay status` and whoever else asks."""

from __future__ import annotations

import os
import time
from json import loads
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.event import encode
from hpc_flows.leases import Holder

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER, _SUFFIX = "status", ".json"
#: Seconds after which the file of a relay that was killed on another machine is removed.
_LEFT_OVER = 86400.0


class Standing:
    """The file in which one relay says how it stands with one sink.

    Args:
        home: the setting `home`.
        relay: id of the relay.
    """

    def __init__(self, home: str, relay: str) -> None:
        self._path = os.path.join(home, "relay", _FOLDER, relay + _SUFFIX)
        self._holder = Holder.here(0.0).text()

    def write(self, facts: Mapping[str, Any]) -> None:
        """Say how it stands; a disk that is full changes nothing else."""
        text = encode({**facts, "told": time.time(), "holder": self._holder})
        draft = f"{self._path}.draft"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(draft, "w", encoding="ascii") as file:
                file.write(text)
            os.rename(draft, self._path)
        except OSError:
            return

    def remove(self) -> None:
        """Remove the file: the relay has ended in good order."""
        try:
            os.unlink(self._path)
        except OSError:
            return


def standings(home: str) -> list[dict[str, Any]]:
    """Return how the relays of a home stand, with `lives` in each; None: it cannot be told."""
    found = []
    folder = os.path.join(home, "relay", _FOLDER)
    for path in (os.path.join(folder, name) for name in _listed(folder)):
        try:
            with open(path, encoding="ascii") as file:
                facts = loads(file.read())
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and not _swept(path, facts):
            found.append(facts)
    return sorted(found, key=lambda facts: (str(facts.get("sink")), float(facts.get("told", 0))))


def _listed(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
    except OSError:
        return []


def _swept(path: str, facts: dict[str, Any]) -> bool:
    """Note whether a relay lives; remove what one that was killed has left."""
    lines = (line.partition("=") for line in str(facts.pop("holder", "")).splitlines())
    dead = Holder({key: value for key, _, value in lines}).is_dead()
    age = time.time() - float(facts.get("told", 0.0))
    facts["lives"] = False if dead else (True if age < 3 * 15.0 else None)
    if not dead and age < _LEFT_OVER:
        return False
    try:
        os.unlink(path)
    except OSError:
        return dead
    return True
