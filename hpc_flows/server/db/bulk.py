"""Many rows at once, in the way in which each database is quickest.

SQLite takes some dozens of rows in a statement: with one statement for each, Python's lock would be
given away and waited for at each row, and a busy thread would keep it for milliseconds. PostgreSQL
takes columns as arrays in a single statement, which is several times as fast as rows.
"""

from __future__ import annotations

import json
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Table

Row = tuple[Any, ...]

#: How many rows a statement of SQLite's has; a few sizes, so that statements are prepared once.
_PORTIONS = (64, 8, 1)

#: How a column takes what comes for it: `{new}` is the new value, `{old}` the one that is there.
REPLACE = "{new}"
ADD = "{old} + {new}"
LEAST = "CASE WHEN {new} IS NULL OR {old} <= {new} THEN {old} ELSE {new} END"  # {old} may be NULL
GREATEST = "CASE WHEN {new} IS NULL OR {old} >= {new} THEN {old} ELSE {new} END"


def insert_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Insert rows, given as tuples of the columns `names`."""
    _run(connection, partial(_insert, table, names, ""), table, names, rows)


def upsert_rows(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[Row],
    *,
    taking: tuple[tuple[str, str], ...] = (),
    when: str = "",
) -> None:
    """Insert rows, or change those whose primary key is there.

    Args:
        connection: in a transaction.
        table: where; `names` has all columns of its primary key.
        names: the columns of which the rows are tuples.
        rows: no two of one key.
        taking: columns to change and how (`REPLACE`, `ADD`, `LEAST`, `GREATEST`); with none, a
            row that is there stays as it is.
        when: condition for changing one, with `{t}` for the table and `excluded` for the new row.
    """
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    changes = _changes(table.name, taking, when) if taking else "NOTHING"
    end = f" ON CONFLICT ({key}) DO {changes}"
    _run(connection, partial(_insert, table, names, end), table, names, rows)


def update_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Change rows; the first of `names` is the key by which they are found, the others are set."""
    _run(connection, partial(_update, table, names), table, names, rows)


def found(
    connection: Connection, query: str, given: tuple[Any, ...], values: Sequence[str | int]
) -> Sequence[Any]:
    """Return the rows of a query in which `{among}` stands for "is one of `values`".

    Args:
        connection: where to ask.
        query: with `%s` for each of `given`, and `{among}` after all of these.
        given: what stands for `%s`.
        values: any number of them.
    """
    if connection.dialect.name == "sqlite":
        text = query.replace("%s", "?").format(among="IN (SELECT value FROM json_each(?))")
        return connection.exec_driver_sql(text, (*given, json.dumps(list(values)))).all()
    text = query.format(among="= ANY(%s)")
    return connection.exec_driver_sql(text, (*given, list(values))).all()


def _run(
    connection: Connection,
    statement: Callable[[int], str],
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[Row],
) -> None:
    """Run a statement for rows; it is made for a number of rows, or with 0 for arrays of them."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        at = 0
        for size in _PORTIONS:
            while len(rows) - at >= size:
                values = tuple(chain.from_iterable(rows[at : at + size]))
                connection.exec_driver_sql(statement(size), values)
                at += size
        return
    floats = _floats(table, names)
    columns = [
        [None if v is None else float(v) for v in column] if is_float else list(column)
        for column, is_float in zip(zip(*rows, strict=True), floats, strict=True)
    ]
    connection.exec_driver_sql(statement(0), tuple(columns))


@cache
def _insert(table: Table, names: tuple[str, ...], end: str, size: int) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    begin = f'INSERT INTO "{table.name}" ({listed}) '
    if size:
        return f"{begin}VALUES {_values(names, size)}{end}"
    # The condition keeps PostgreSQL's parser from reading ON as part of a join.
    taken = f"unnest({_arrays(table, names)})"
    return f"{begin}SELECT * FROM {taken} WHERE true{end}"  # noqa: S608 - our own columns


def _values(names: tuple[str, ...], size: int) -> str:
    return ", ".join([f"({', '.join('?' * len(names))})"] * size)


@cache
def _changes(table: str, taking: tuple[tuple[str, str], ...], when: str) -> str:
    parts = [
        f'"{name}" = ' + how.format(old=f'"{table}"."{name}"', new=f'excluded."{name}"')
        for name, how in taking
    ]
    condition = f" WHERE {when.format(t=table)}" if when else ""
    return "UPDATE SET " + ", ".join(parts) + condition


@cache
def _update(table: Table, names: tuple[str, ...], size: int) -> str:
    sets = ", ".join(f'"{name}" = v."{name}"' for name in names[1:])
    listed = ", ".join(f'"{name}"' for name in names)
    found_by = f'WHERE t."{names[0]}" = v."{names[0]}"'
    if size:
        rows = f"WITH v ({listed}) AS (VALUES {_values(names, size)})"
        return f'{rows} UPDATE "{table.name}" AS t SET {sets} FROM v {found_by}'  # noqa: S608 - ours
    arrays = f"unnest({_arrays(table, names)}) AS v ({listed})"
    return f'UPDATE "{table.name}" AS t SET {sets} FROM {arrays} {found_by}'  # noqa: S608 - ours


@cache
def _arrays(table: Table, names: tuple[str, ...]) -> str:
    # %b: as text, each sign of each value would be looked at in Python.
    return ", ".join(f"%b::{_postgresql_type(table, name)}[]" for name in names)


@cache
def _floats(table: Table, names: tuple[str, ...]) -> list[bool]:
    return [isinstance(table.c[name].type, Double) for name in names]


def _postgresql_type(table: Table, name: str) -> str:
    type_ = table.c[name].type
    if isinstance(type_, Boolean):
        return "boolean"
    if isinstance(type_, Double):
        return "double precision"
    if isinstance(type_, BigInteger | Integer):
        return "bigint"
    return "bytea" if isinstance(type_, LargeBinary) else "text"
