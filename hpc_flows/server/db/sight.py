"""Who looks at the database, and the one condition that decides which runs they may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, false, or_

from hpc_flows.server.db.models import runs

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


@dataclass(frozen=True, slots=True)
class Sight:
    """Somebody who looks.

    Attributes:
        user_id: whose eyes; None sees no run by being its owner.
        is_admin: whether all runs are seen.
        projects: ids of the projects that the user is a member of.
        run: id of the one run that the token is limited to, or None.
    """

    user_id: int | None
    is_admin: bool = False
    projects: frozenset[int] = frozenset()
    run: str | None = None


def visible(sight: Sight) -> ColumnElement[bool]:
    """Return the condition on `runs` that holds for those that may be seen.

    Every query about anything in a run joins `runs` and asks this. A run that is being removed is
    seen by nobody, because half of it may be gone.
    """
    allowed: ColumnElement[bool] = runs.c.removed.is_(None)
    if not sight.is_admin:
        mine: ColumnElement[bool] = false()
        if sight.user_id is not None:
            mine = runs.c.owner_id == sight.user_id
        if sight.projects:
            mine = or_(mine, runs.c.project_id.in_(sorted(sight.projects)))
        allowed = and_(allowed, mine)
    return allowed if sight.run is None else and_(allowed, runs.c.id == sight.run)
