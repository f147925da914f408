"""Variables: each user has their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from hpc_flows.server.db.bulk import REPLACE, upsert_rows
from hpc_flows.server.db.opening import now
from hpc_flows.server.db.people import variables
from hpc_flows.server.db.texts import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hpc_flows.server.db.sight import Sight

#: Characters of a name, and of a value as JSON.
LONGEST_NAME, LONGEST_VALUE = 255, 100_000


def list_variables(connection: Connection, sight: Sight) -> list[dict[str, Any]]:
    """Return one's variables, by name."""
    table = variables.c
    query = select(variables).where(table.user_id == sight.user_id).order_by(table.name)
    return [
        {
            "name": row.name,
            "value": loads(row.value),
            "tags": loads(row.tags),
            "created": row.created,
            "updated": row.updated,
        }
        for row in connection.execute(query)
    ]


def set_variable(
    connection: Connection, sight: Sight, name: str, value: Any, tags: Sequence[str] = ()
) -> dict[str, Any]:
    """Give a variable a value, and return it.

    Raises:
        ValueError: the name or the value cannot be.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"A variable's name has 1 to {LONGEST_NAME} characters that one can see.")
    text = dumps(value)
    if len(text) > LONGEST_VALUE:
        raise ValueError(f"A variable's value has at most {LONGEST_VALUE} characters as JSON.")
    at = now()
    names = ("user_id", "name", "value", "tags", "created", "updated")
    row = (sight.user_id, name, text, dumps(list(tags)), at, at)
    taking = tuple((column, REPLACE) for column in ("value", "tags", "updated"))
    upsert_rows(connection, variables, names, [row], taking=taking)
    return next(item for item in list_variables(connection, sight) if item["name"] == name)


def delete_variable(connection: Connection, sight: Sight, name: str) -> bool:
    """Forget a variable; tell whether there was one."""
    mine = variables.c.user_id == sight.user_id
    return connection.execute(delete(variables).where(mine, variables.c.name == name)).rowcount > 0
