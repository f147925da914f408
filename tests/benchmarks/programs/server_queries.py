"""Store a million task runs in our server's database and ask for lists and details; print times.

Usage: server_queries.py DATABASE TASK_RUNS, where DATABASE is `sqlite` or `postgresql`. One run has
a tenth of the task runs. The last line has `p50`, `p95` (over all queries) and `timeline`, the
picture of the whole large run, in seconds; the slowest queries are told on standard error.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import select

from hpc_flows.server.db import Sight, open_database
from hpc_flows.server.db.models import task_runs
from tests.benchmarks.programs.server_databases import database_url
from tests.benchmarks.server_queries import measure, medians, overall, percentile, queries
from tests.benchmarks.server_stock import fill

#: How often each query is asked.
TIMES = 7


def main() -> None:
    kind, many = sys.argv[1], int(sys.argv[2])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-server-")))
        database = open_database(database_url(kind, folder, stack))
        stack.callback(database.close)
        database.migrate()
        run = fill(database, many, many // 10)
        with database.reading() as connection:
            of_run = select(task_runs.c.id).where(task_runs.c.flow_run == run)
            id_ = connection.scalar(of_run.where(task_runs.c.task == "train").limit(1))
        asked = queries(run, str(id_))
        measure(database, Sight(1), asked, 1)  # the first time, everything is read from the disk
        taken = measure(database, Sight(1), asked, TIMES)
        whole = measure(database, Sight(1), overall(run), TIMES)
    slowest = sorted(medians(taken).items(), key=lambda pair: -pair[1])[:5]
    for name, seconds in slowest:
        print(f"{name}: {seconds * 1000:.1f} ms", file=sys.stderr)
    figures = {"p50": percentile(taken, 0.5), "p95": percentile(taken)}
    print(json.dumps({**figures, "timeline": percentile(whole, 0.5)}))


main()
