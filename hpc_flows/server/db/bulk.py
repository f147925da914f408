"""Many rows at once, in the way in which each database is quickest.

SQLite takes rows one by one in C (`executemany`); PostgreSQL takes columns as arrays in a single
statement, which is several times as fast as rows.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

Row = tuple[Any, ...]

#: How a column takes what comes for it: `{new}` is the new value, `{old}` the one that is there.
REPLACE = "{new}"
ADD = "{old} + {new}"
LEAST = "CASE WHEN {new} IS NULL OR {old} <= {new} THEN {old} ELSE {new} END"  # {old} may be NULL
GREATEST = "CASE WHEN {new} IS NULL OR {old} >= {new} THEN {old} ELSE {new} END"


def insert_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Insert rows, given as tuples of the columns `names`."""
    if rows:
        _run(connection, _insert(table, names, connection.dialect.name), table, names, rows)


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
    if not rows:
        return
    statement = _insert(table, names, connection.dialect.name)
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    statement += f" ON CONFLICT ({key}) DO "
    statement += _changes(table.name, taking, when) if taking else "NOTHING"
    _run(connection, statement, table, names, rows)


def update_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Change rows; the first of `names` is the key by which they are found, the others are set."""
    if rows:
        sqlite = connection.dialect.name == "sqlite"
        statement = _sqlite_update(table, names) if sqlite else _postgresql_update(table, names)
        # SQLite binds in the order of the statement, where the key comes last.
        given = [(*row[1:], row[0]) for row in rows] if sqlite else rows
        _run(connection, statement, table, names, given)


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
    statement: str,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[Row],
) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement, list(rows))
        return
    floats = _floats(table, names)
    columns = [
        [None if v is None else float(v) for v in column] if is_float else list(column)
        for column, is_float in zip(zip(*rows, strict=True), floats, strict=True)
    ]
    connection.exec_driver_sql(statement, tuple(columns))


@cache
def _insert(table: Table, names: tuple[str, ...], dialect: str) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    begin = f'INSERT INTO "{table.name}" ({listed}) '
    if dialect == "sqlite":
        return begin + f"VALUES ({', '.join('?' * len(names))})"
    # The condition keeps SQLite's and PostgreSQL's parsers from reading ON as part of a join.
    taken = f"unnest({_arrays(table, names)})"
    return f"{begin}SELECT * FROM {taken} WHERE true"  # noqa: S608 - names of our own columns


@cache
def _changes(table: str, taking: tuple[tuple[str, str], ...], when: str) -> str:
    parts = [
        f'"{name}" = ' + how.format(old=f'"{table}"."{name}"', new=f'excluded."{name}"')
        for name, how in taking
    ]
    condition = f" WHERE {when.format(t=table)}" if when else ""
    return "UPDATE SET " + ", ".join(parts) + condition


@cache
def _sqlite_update(table: Table, names: tuple[str, ...]) -> str:
    sets = ", ".join(f'"{name}" = ?' for name in names[1:])
    return f'UPDATE "{table.name}" SET {sets} WHERE "{names[0]}" = ?'  # noqa: S608 - our names


@cache
def _postgresql_update(table: Table, names: tuple[str, ...]) -> str:
    sets = ", ".join(f'"{name}" = v."{name}"' for name in names[1:])
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f'UPDATE "{table.name}" AS t SET {sets} '  # noqa: S608 - names of our own columns
        f"FROM unnest({_arrays(table, names)}) AS v ({listed}) "
        f'WHERE t."{names[0]}" = v."{names[0]}"'
    )


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
