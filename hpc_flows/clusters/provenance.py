"""Where the facts of a profile come from, and the check that each of them says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.clusters.files import read_profile
from hpc_flows.clusters.parts import Fact

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

#: Keys that are about the profile itself, or about the pretend cluster, and so are no facts.
_NO_FACTS = frozenset(
    {
        *("name", "title", "extends", "status", "contact", "verified_on", "scheduler"),
        *("transport", "path", "start", "sources", "provenance", "mock"),
    }
)


def facts_of(table: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the sources of a profile by the names that its `[provenance]` table gives."""
    sources = table.get("sources", {})
    return {
        name: Fact(source, **sources[source])
        for name, source in table.get("provenance", {}).items()
        if {"title", "date"} <= sources.get(source, {}).keys()
    }


def source_of(key: str, facts: Mapping[str, Fact]) -> Fact | None:
    """Return the source with the longest name that is `key` or a table around it."""
    parts = key.split(".")
    ways = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((facts[way] for way in ways if way in facts), None)


def lint(name: str | os.PathLike[str]) -> list[str]:
    """Return what a profile must still say before it can be shipped; nothing when it can.

    Raises:
        ClusterError: the profile cannot be read at all.
    """
    table = read_profile(name).table
    heads = ("name", "title", "status", "scheduler", "verified_on", "sources", "provenance")
    complaints = [f"{head} is missing" for head in heads if not table.get(head)]
    for key, source in table.get("sources", {}).items():
        lacks = [part for part in ("title", "date") if part not in source]
        complaints += [f"sources.{key} has no {part}" for part in lacks]
    for key, source in table.get("provenance", {}).items():
        if source not in table.get("sources", {}):
            complaints.append(f"provenance.{key!r} names the source {source!r}, which is not there")
        if not any(leaf == key or leaf.startswith(f"{key}.") for leaf in leaves(table)):
            complaints.append(f"provenance.{key!r} is about nothing that the profile says")
    facts = facts_of(table)
    complaints += [f"{leaf} has no source" for leaf in leaves(table) if not source_of(leaf, facts)]
    return complaints


def leaves(table: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Yield the dotted names of all facts of a profile."""
    for key, value in table.items():
        if not at and key in _NO_FACTS:
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}"
