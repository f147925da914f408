"""A run as one HTML file, to keep beside its data, to attach to a mail or to a paper.

The file needs no server and no network. What it says stands in it as plain HTML; a script of the
page, written into it, draws the timeline and the graph and sorts the table of task runs. Its
content security policy lets nothing but that script and style run (by their hashes), so that a
name with markup in it does nothing even where escaping should have failed.

It is made of the same queries as the page, for whom it is made, and stays below 2 MB for 10,000
task runs: times are differences, names are not repeated, logs are their end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

from hpc_flows.server.db.texts import seconds as number_of
from hpc_flows.server.page import PageNotBuilt, page_folder
from hpc_flows.server.queries import flow_runs, graphs, jobs, logs, task_runs, timelines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from hpc_flows.server.db.sight import Sight

#: Task runs of which each is drawn; of more there are counts over time.
MOST_TASK_RUNS = 10_000
#: Failed task runs, jobs and log records in the file at most.
MOST_FAILURES, MOST_JOBS, MOST_RECORDS = 100, 200, 500
#: Failures that are shown before more are asked for.
_FEW = 10
#: Characters that are kept of names, of messages, and of all records of the log together.
NAME, MESSAGE, LOG = 160, 4_000, 200_000

#: Seconds above which a duration comes from clocks gone wild: some 30,000 years.
_LONGEST = 1e12

_FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
#: Colours and movements of terminals, and what else is no text.
_CONTROLS = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)|[\0-\x08\x0b-\x1f\x7f]"
)
_LEVELS = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))


class Html(str):
    """Text that is HTML already; every other text is escaped before it gets into the file."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Html:
    """Return an element; content that is no `Html` is text, and attributes are quoted.

    A trailing `_` of an attribute's name is left out (`class_`), other `_` become `-`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content: Iterable[object]) -> Html:
    """Return pieces as one; None is nothing."""
    pieces = ("" if one is None else one for one in content)
    return Html("".join(one if isinstance(one, Html) else escape(str(one)) for one in pieces))


@dataclass(frozen=True, slots=True)
class Found:
    """What the queries say of a run; each is what the reading API answers.

    Attributes:
        made: when the file is made, in seconds since 1970.
    """

    run: dict[str, Any]
    counts: dict[str, Any]
    timeline: dict[str, Any]
    graph: dict[str, Any]
    failures: dict[str, Any]
    jobs: dict[str, Any]
    logs: dict[str, Any]
    made: float


def export_html(connection: Connection, sight: Sight, id_: str) -> str | None:
    """Return a flow run as one HTML document, or None if it is not there for who looks.

    Args:
        connection: to the database, in a transaction.
        sight: who looks.
        id_: of the flow run.

    Raises:
        PageNotBuilt: the script and the style that it takes from the page were not built.
    """
    found = _find(connection, sight, id_)
    return None if found is None else _document(found, _built("export.js"), _built("export.css"))


def _built(name: str) -> str:
    path = page_folder() / "export" / name
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PageNotBuilt(f"{path} is not there: run `make page` again.") from None
    # The end of the element that holds it must not stand within it.
    return text.strip().replace("</script", "<\\/script").replace("</style", "<\\/style")


def _find(connection: Connection, sight: Sight, id_: str) -> Found | None:
    run = flow_runs.flow_run(connection, sight, id_)
    if run is None:
        return None
    bad = task_runs.TaskRunFilter(flow_run=id_, states=("FAILED", "CRASHED"))
    some = timelines.TimelineFilter(limit=min(MOST_TASK_RUNS, timelines.MOST_ROWS))
    sent = jobs.JobFilter(flow_run=id_)
    is_root = run["run"] == id_
    told = logs.LogFilter(run=id_) if is_root else logs.LogFilter(flow_run=id_)
    records = logs.list_logs(connection, sight, told, order="desc", limit=MOST_RECORDS)
    return Found(
        run=run,
        counts=flow_runs.counts(connection, sight, id_) or {"tasks": []},
        timeline=timelines.timeline(connection, sight, id_, some) or {"mode": "rows", "rows": []},
        graph=graphs.graph(connection, sight, id_, ()) or {"nodes": [], "edges": []},
        failures=task_runs.list_task_runs(connection, sight, bad, "-ended", MOST_FAILURES, 0),
        jobs=jobs.list_jobs(connection, sight, sent, MOST_JOBS, 0),
        logs=records or {"items": []},
        made=time.time(),
    )


def _document(found: Found, script: str, style: str) -> str:
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = joined(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html('<meta name="referrer" content="no-referrer">'),
            tag("title", f"{cut(found.run['name'])} · {found.run['state_name'] or ''}"),
            Html(f"<style>{style}</style>"),
        )
    )
    data = Html(f'<script type="application/json" id="exported-data">{_data(found)}</script>')
    body = joined((tag("main", *_sections(found), class_="exported"), data))
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n'
        f"<body>{body}\n<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def cut(text: object, longest: int = NAME) -> str:
    """Return a text that is not too long; its end is kept, which tells mapped runs apart."""
    whole = str(text or "")
    tail = longest // 4
    return whole if len(whole) <= longest else f"{whole[: longest - tail - 1]}…{whole[-tail:]}"


# What the script draws.


def _data(found: Found) -> str:
    ended = found.run["ended"]
    content = {
        "now": found.made if ended is None else ended,
        "timeline": _packed(found.timeline),
        "graph": _without_long_names(found.graph),
    }
    # No `<` within the element, whatever a name holds; and JSON of ASCII is JavaScript as well.
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _without_long_names(graph: dict[str, Any]) -> dict[str, Any]:
    nodes = [
        {**node, "label": cut(node.get("label")), "task": cut(node.get("task"))}
        for node in graph["nodes"]
    ]
    return {"nodes": nodes, "edges": graph["edges"], "left_out": graph.get("left_out", 0)}


class _Numbers:
    """Numbers texts in the order in which they come, so that each stands in the file once."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, value: Any) -> int:
        return self.known.setdefault(value, len(self.known))


def _packed(timeline: dict[str, Any]) -> dict[str, Any]:
    """Pack rows as src/export/data.ts of the page unpacks them."""
    if timeline["mode"] == "bins":
        named = [{**task, "task": cut(task["task"])} for task in timeline["tasks"]]
        return {**timeline, "tasks": named}
    base = min((row["created"] for row in timeline["rows"] if row["created"]), default=0.0)
    lanes, tasks, states = _Numbers(), _Numbers(), _Numbers()
    rows: list[list[Any]] = []
    last = None
    for row in timeline["rows"]:
        name = 0 if row["id"] == last else cut(row["name"])
        last = row["id"]
        state = states.of((row["state_type"] or "PENDING", row["state_name"] or ""))
        place = [lanes.of(row["id"]), name, tasks.of(cut(row["task"])), row["attempt"]]
        rows.append([*place, *_times(row, base), state, row["walltime"]])
    return {
        "mode": "packed",
        "base": base,
        "begin": timeline.get("begin"),
        "end": timeline.get("end"),
        "tasks": list(tasks.known),
        "states": [list(state) for state in states.known],
        "rows": rows,
    }


def _times(row: dict[str, Any], base: float) -> list[float | None]:
    created = row["created"]
    rest = (row["queued"], row["started"], row["ended"])
    return [_gap(created, base), *(_gap(at, created or base) for at in rest)]


def _gap(at: float | None, since: float) -> float | None:
    """Return a difference to the millisecond, whole where it is."""
    if at is None:
        return None
    gap = round(at - since, 3)
    if not isfinite(gap):  # JSON has no word for it
        return None
    return int(gap) if gap == int(gap) else gap


# What stands in the file as text.


def _sections(found: Found) -> list[Html | None]:
    return [
        _header(found),
        _section("Tasks", _counts(found)),
        _section("Failures", _failures(found)) if found.failures["items"] else None,
        _section("Timeline", _drawn_by_script("exported-runs")),
        _section("Graph", _drawn_by_script("exported-graph")),
        _section("Jobs", _jobs(found)) if found.jobs["items"] else None,
        _section("Parameters", _parameters(found.run)) if found.run["parameters"] else None,
        _section("The end of the logs", _logs(found)) if found.logs["items"] else None,
        tag("footer", f"Made by hpc_flows at {_clock(found.made)} from the run {found.run['id']}."),
    ]


def _section(title: str, content: Html) -> Html:
    return tag("section", tag("h2", title), content)


def _drawn_by_script(name: str) -> Html:
    absent = tag("p", "It is drawn by a script, which did not run here.", class_="faint")
    return tag("div", absent, id=name)


def _clock(at: float | None) -> str:
    if at is None:
        return "–"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, OSError, ValueError):  # as odd as a node's clock, or a relay, told it
        return f"{at:g} s since 1970"


def _lasted(begin: float | None, end: float | None) -> str:
    if begin is None or end is None:
        return "–"
    seconds = max(0.0, end - begin)
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    if seconds > _LONGEST:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _state(type_: str | None, name: str | None) -> Html:
    look = f"dot s-{(type_ or 'pending').lower()}"
    # OutOfMemory is read as "Out of memory".
    words = re.sub("(?<=[a-z])[A-Z]", lambda big: f" {big[0].lower()}", name or type_ or "unknown")
    return tag("span", tag("span", class_=look), words, class_="state")


def _header(found: Found) -> Html:
    run = found.run
    begin = run["started"] or run["created"]
    ended = sum(count for type_, count in run["tasks"].items() if type_ in _FINAL)
    facts = (
        ("flow", cut(run["flow"])),
        ("started", _clock(begin)),
        ("ended", _clock(run["ended"])),
        ("ran", _lasted(begin, run["ended"] or found.made)),
        ("task runs", f"{ended:,} of {run['total_tasks']:,} ended"),
        ("clusters", ", ".join(run["clusters"])),
        ("driver on", run["host"]),
        ("owner", run["owner"]),
        ("tags", ", ".join(map(cut, run["tags"]))),
        ("entry point", cut(run["entrypoint"])),
    )
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value]
    title = tag("div", tag("h1", tag("bdi", cut(run["name"]))), class_="run-title")
    said = _message(run["message"]) if run["message"] != run["state_name"] else None
    state = tag("p", _state(run["state_type"], run["state_name"]))
    return tag("header", title, state, tag("dl", *shown, class_="facts"), said)


def _message(text: str | None) -> Html | None:
    return tag("pre", cut(text, MESSAGE), dir="auto") if text else None


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; heads are pairs of a title and the class of the column."""
    looks = [look for _, look in heads]
    head = [tag("th", title, class_=look) for title, look in heads]
    body = [
        tag("tr", *(tag("td", cell, class_=look) for cell, look in zip(row, looks, strict=True)))
        for row in rows
    ]
    return tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="list")


def _counts(found: Found) -> Html:
    tasks = found.counts["tasks"]
    if not tasks:
        return tag("p", "The flow has called no task.", class_="faint")
    heads = (("Task", ""), ("States", ""), ("Task runs", "right"))
    times = (("First start", "right wide-only"), ("Last end", "right wide-only"))
    rows = (
        (
            tag("bdi", cut(task["task"])),
            joined(_count(state) for state in task["states"]),
            f"{task['total']:,}",
            _clock(task["first_started"]),
            _clock(task["last_ended"]),
        )
        for task in tasks[:MOST_JOBS]
    )
    return joined((_table((*heads, *times), rows), _left_out(len(tasks), MOST_JOBS)))


def _count(state: dict[str, Any]) -> Html:
    shown = _state(state["type"], f"{state['name']} {state['count']:,}")
    return tag("span", shown, Html(" &ensp;"))


def _left_out(count: int | None, shown: int) -> Html | None:
    if count is not None and count <= shown:
        return None
    return tag("p", f"The first {shown:,}; the server has them all.", class_="faint")


def _failures(found: Found) -> Html:
    items = [
        tag(
            "details",
            tag(
                "summary",
                _state(task["state_type"], task["state_name"]),
                " ",
                tag("bdi", cut(task["name"])),
                f" · job {cut(task['job'])}" if task["job"] else "",
                f" on {cut(task['node'])}" if task["node"] else "",
            ),
            _message(task["message"]),
        )
        for task in found.failures["items"]
    ]
    bad = sum(found.run["tasks"].get(type_, 0) for type_ in ("FAILED", "CRASHED"))
    if len(items) > _FEW:
        rest = tag("summary", f"{len(items) - _FEW} more")
        items = [*items[:_FEW], tag("details", rest, *items[_FEW:])]
    return joined((*items, _left_out(bad, MOST_FAILURES)))


def _jobs(found: Found) -> Html:
    heads = (("Job", ""), ("Where it stands", ""), ("Task runs", "right"), ("Asked for", ""))
    more = (("Cluster", "wide-only"), ("Submitted", "right wide-only"))
    rows = (
        (
            cut(job["job"] or "not submitted"),
            cut(_standing(job), MESSAGE),
            f"{job['members']:,}",
            _asked(job["resources"] or {}),
            cut(job["cluster"]),
            _clock(job["submitted"]),
        )
        for job in found.jobs["items"]
    )
    return joined((_table((*heads, *more), rows), _left_out(found.jobs["total"], MOST_JOBS)))


def _standing(job: dict[str, Any]) -> str:
    if job["refusal"] is not None:
        return f"refused: {job['refusal']}"
    told = ", ".join(f"{count:,} {phase}" for phase, count in job["phases"].items() if count)
    why = "; ".join(reason["words"] or reason["reason"] for reason in job["reasons"])
    said = f"{told} ({why})" if why else told
    return f"cancelled: {job['cancelled']}. {said}" if job["cancelled"] else said or "submitted"


def _asked(resources: dict[str, Any]) -> str:
    memory, walltime = (number_of(resources.get(name)) for name in ("memory", "walltime"))
    parts = {
        **{name: resources.get(name) for name in ("nodes", "cpus", "gpus", "partition")},
        "memory": None if memory is None else _memory(memory),
        # What was asked for is round as a rule: 5 min rather than 5 min 00 s.
        "walltime": re.sub(" 00 (s|min)$", "", _lasted(0, walltime)) if walltime else None,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def _memory(size: float) -> str:
    return f"{size / 2**30:.4g} GiB" if size >= 2**30 else f"{size / 2**20:.4g} MiB"


def _parameters(run: dict[str, Any]) -> Html:
    shown = (
        tag("div", tag("dt", cut(name)), tag("dd", cut(value, MESSAGE)))
        for name, value in list(run["parameters"].items())[:MOST_JOBS]
    )
    return tag("dl", *shown, class_="pairs")


def _logs(found: Found) -> Html:
    lines: list[str] = []
    room = LOG
    for record in found.logs["items"]:  # the newest first
        line = cut(_line(record), MESSAGE)
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return tag("pre", "\n".join(reversed(lines)))


def _line(record: dict[str, Any]) -> str:
    level = next((name for least, name in _LEVELS if record["level"] >= least), "DEBUG")
    who = cut(record.get("task_run_name") or "", 40)
    return (
        f"{_clock(record['t'])} {level:8} {who and who + ' '}{_CONTROLS.sub('', record['message'])}"
    )
