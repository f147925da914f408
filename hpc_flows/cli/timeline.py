"""The timeline of a run in the terminal: when task runs waited, were queued, and ran.

A task with few runs has one bar for each; a task with many has two curves, how many were queued and
how many ran at each time. Drawn in blocks, or in ASCII where the terminal has no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hpc_flows.cli.terminal import STATE_STYLES, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hpc_flows.journal.replay import TaskRunView

#: Tasks with more runs than this are drawn as curves.
BARS_PER_TASK = 6

_WAITING, _QUEUED, _RUNNING = "waiting", "queued", "running"
_STYLES = {_WAITING: "dim", _QUEUED: "yellow", _RUNNING: "cyan"}
_BLOCKS = {_WAITING: "·", _QUEUED: "░", _RUNNING: "█", "failed": "✗"}
_ASCII = {_WAITING: ".", _QUEUED: "-", _RUNNING: "#", "failed": "x"}
_CURVE_BLOCKS, _CURVE_ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_NEWS = {"SCHEDULED": _QUEUED, "PENDING": _WAITING, "RUNNING": _RUNNING, "CANCELLING": _RUNNING}
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_DAY = 86400.0
_BAD = frozenset({"FAILED", "CRASHED"})
_LEAST_DRAWING = 16

#: Tasks that are drawn; more would scroll away.
_MOST_TASKS = 24

#: Columns to the right of the drawing, for " ≤1000 running ✗12" beside curves and " ✗" beside bars.
_BESIDE_CURVES, _BESIDE_BARS = 18, 3


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a task run's life; times in seconds since 1970."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One task run in the timeline; `ending` is its final state's type, or an empty text."""

    task: str
    name: str
    spans: tuple[Span, ...]
    ending: str = ""


def lane(run: TaskRunView, now: float) -> Lane:
    """Return a task run's lane; what has not ended goes on until `now`."""
    spans: list[Span] = []
    history = sorted(run.history, key=lambda entry: entry[0])
    if not history:
        return Lane(run.task, run.name, ())
    ends = [entry[0] for entry in history[1:]] + [now]
    for (start, type_, name), end in zip(history, ends, strict=True):
        kind = _QUEUED if name == "InfrastructurePending" else _NEWS.get(type_)
        if kind is not None and end > start:
            spans.append(Span(start, end, kind))
    ending = "" if history[-1][1] in _NEWS else history[-1][1]
    return Lane(run.task, run.name, tuple(spans), ending)


def draw(
    runs: Iterable[TaskRunView], *, now: float, width: int, unicode: bool = True
) -> list[Text]:
    """Return the timeline's lines.

    Args:
        runs: the task runs to draw.
        now: seconds since 1970 at which what goes on is cut.
        width: columns that the drawing may take.
        unicode: False draws ASCII.
    """
    return draw_lanes([lane(run, now) for run in runs], width=width, unicode=unicode)


def lane_of_row(row: Mapping[str, Any], now: float) -> Lane:
    """Return the lane of a task run of which only the times of its newest attempt are known."""
    end = row["ended"] or now
    begun = row["started"] or end
    marks = ((_WAITING, row["created"]), (_QUEUED, row["queued"]), (_RUNNING, row["started"]))
    known = [(kind, at) for kind, at in marks if at is not None]
    ends = [at for _, at in known[1:]] + [end if row["started"] else begun]
    spans = (Span(at, until, kind) for (kind, at), until in zip(known, ends, strict=True))
    ending = row["state_type"] if row["ended"] else ""
    return Lane(row["task"], row["name"], tuple(s for s in spans if s.end > s.start), ending or "")


def draw_lanes(found: Iterable[Lane], *, width: int, unicode: bool = True) -> list[Text]:
    """Return the timeline's lines for lanes, as `draw` does for task runs."""
    lanes = [made for made in found if made.spans]
    if not lanes:
        return []
    picture = _Picture(lanes, width, unicode=unicode)
    lines = [picture.axis()]
    groups = _by_task(lanes)
    for task, members in list(groups.items())[:_MOST_TASKS]:
        many = len(members) > BARS_PER_TASK
        lines += picture.curves(task, members) if many else picture.bars(task, members)
    if len(groups) > _MOST_TASKS:
        lines.append(Text(f"and {len(groups) - _MOST_TASKS} tasks more", style="dim"))
    lines.append(picture.legend())
    for line in lines:
        line.truncate(max(width, 1))
    return lines


def draw_bins(answer: Mapping[str, Any], *, width: int, unicode: bool = True) -> list[Text]:
    """Return the timeline's lines for counts by time, which a server gives of many task runs.

    Args:
        answer: `begin`, `end`, and for each of `tasks` how many were `queued` and `running`.
        width: columns that the drawing may take.
        unicode: False draws ASCII.
    """
    begin, end = answer["begin"], answer["end"]
    if begin is None or end is None or not answer["tasks"]:
        return []
    whole = Span(begin, max(end, begin + 1e-3), _RUNNING)
    lanes = [Lane(task["task"], task["task"], (whole,)) for task in answer["tasks"]]
    picture = _Picture(lanes, width, unicode=unicode, has_curves=True)
    lines = [picture.axis()]
    for task in answer["tasks"][:_MOST_TASKS]:
        label = task["task"]
        for kind in (_QUEUED, _RUNNING):
            if any(task[kind]):
                lines.append(
                    picture.curve(label, kind, picture.stretched(task[kind]), max(task[kind]))
                )
                label = ""
    if len(answer["tasks"]) > _MOST_TASKS:
        lines.append(Text(f"and {len(answer['tasks']) - _MOST_TASKS} tasks more", style="dim"))
    lines.append(picture.legend())
    for line in lines:
        line.truncate(max(width, 1))
    return lines


def _by_task(lanes: Sequence[Lane]) -> Mapping[str, list[Lane]]:
    groups: dict[str, list[Lane]] = {}
    for member in sorted(lanes, key=lambda each: each.spans[0].start):
        groups.setdefault(member.task, []).append(member)
    return groups


class _Picture:
    """The scales and glyphs that all lines of one timeline share."""

    def __init__(
        self, lanes: Sequence[Lane], width: int, *, unicode: bool, has_curves: bool = False
    ) -> None:
        self.glyphs = _BLOCKS if unicode else _ASCII
        self.levels = _CURVE_BLOCKS if unicode else _CURVE_ASCII
        self.bar = "▕" if unicode else "|"
        self.start = min(span.start for each in lanes for span in each.spans)
        end = max(span.end for each in lanes for span in each.spans)
        self.length = max(end - self.start, 1e-3)
        groups = _by_task(lanes)
        has_curves |= any(len(members) > BARS_PER_TASK for members in groups.values())
        self.margin = _BESIDE_CURVES if has_curves else _BESIDE_BARS
        longest = max(len(text) for text in _labels(groups))
        self.label = max(min(longest, width - _LEAST_DRAWING - self.margin, 32), 4)
        self.columns = max(width - self.label - self.margin - 1, _LEAST_DRAWING)

    def axis(self) -> Text:
        """Return the line of times since the first event."""
        step = next((s for s in _STEPS if self._columns_of(s) >= 10), _DAY)  # noqa: PLR2004 - room for "12 m 30 s"
        marks = [" "] * (self.columns + self.margin)
        at = 0.0
        while at <= self.length:
            text = _mark(at)
            place = round(self._columns_of(at))
            marks[place : place + len(text)] = text
            at += step
        return self._line(
            "", "".join(marks)[: self.columns + self.margin].rstrip(), "dim", edge=" "
        )

    def bars(self, task: str, members: Sequence[Lane]) -> list[Text]:
        """Return one line for each run of a task."""
        return [self._bar(task if len(members) == 1 else each.name, each) for each in members]

    def _bar(self, label: str, member: Lane) -> Text:
        line = self._line(label, "", "")
        cells: list[str | None] = [None] * self.columns
        for span in member.spans:
            first, last = self._place(span.start), self._place(span.end)
            cells[first : last + 1] = [span.kind] * (last + 1 - first)
        for kind in cells:
            line.append(self.glyphs[kind] if kind else " ", _STYLES.get(kind or "", ""))
        if member.ending in _BAD:
            line.append(" " + self.glyphs["failed"], STATE_STYLES[member.ending])
        return line

    def curves(self, task: str, members: Sequence[Lane]) -> list[Text]:
        """Return how many runs of a task were queued and ran, over time."""
        lines = []
        failed = sum(each.ending in _BAD for each in members)
        label = f"{task} x{len(members)}"
        for kind in (_QUEUED, _RUNNING):
            spans = [span for each in members for span in each.spans if span.kind == kind]
            if not spans:
                continue
            load = _load(spans, self.start, self.length / self.columns, self.columns)
            lines.append(self.curve(label, kind, load, _peak(spans)))
            label = ""
        if failed and lines:
            lines[-1].append(f" {self.glyphs['failed']}{failed}", STATE_STYLES["FAILED"])
        return lines

    def curve(self, label: str, kind: str, load: Sequence[float], peak: int) -> Text:
        """Return a line with a curve: how many were of a kind over each column."""
        top = len(self.levels) - 1
        highest = max(load)
        levels = (min(top, max(1, round(v / highest * top))) if v else 0 for v in load)
        line = self._line(label, "".join(self.levels[level] for level in levels), _STYLES[kind])
        most = f" ≤{peak}" if self.levels is _CURVE_BLOCKS else f" <={peak}"
        return line.append(f"{most} {kind}", "dim")

    def stretched(self, counts: Sequence[float]) -> list[float]:
        """Return counts over as many columns as there are, each the most of what lies over it."""
        share = len(counts) / self.columns
        return [
            max(counts[int(at * share) : max(int((at + 1) * share), int(at * share) + 1)])
            for at in range(self.columns)
        ]

    def legend(self) -> Text:
        """Return the line that names the glyphs."""
        line = self._line("", "", "", edge=" ")
        for kind in (_WAITING, _QUEUED, _RUNNING):
            line.append(self.glyphs[kind] * 2, _STYLES[kind])
            line.append(f" {kind}  ", "dim")
        return line

    def _line(self, label: str, text: str, style: str, edge: str | None = None) -> Text:
        line = Text(_cut(label, self.label).ljust(self.label), no_wrap=True, overflow="crop")
        line.append(self.bar if edge is None else edge, "dim")
        line.append(text, style)
        return line

    def _columns_of(self, seconds: float) -> float:
        return seconds / self.length * self.columns

    def _place(self, moment: float) -> int:
        return min(int(self._columns_of(moment - self.start)), self.columns - 1)


def _labels(groups: Mapping[str, Sequence[Lane]]) -> list[str]:
    return [
        label
        for task, members in groups.items()
        for label in (
            [f"{task} x{len(members)}"]
            if len(members) > BARS_PER_TASK or len(members) == 1
            else [each.name for each in members]
        )
    ]


def _cut(label: str, room: int) -> str:
    return label if len(label) <= room else label[: room - 1] + "~"


def _mark(seconds: float) -> str:
    if seconds == 0:
        return "0"
    return f"{seconds:g} s" if seconds < 60 else duration(seconds).removesuffix(" 00 s")  # noqa: PLR2004 - a minute


def _load(spans: Sequence[Span], start: float, step: float, columns: int) -> list[float]:
    """Return the mean number of spans that lie over each column."""
    load = [0.0] * columns
    for span in spans:
        first, last = (span.start - start) / step, (span.end - start) / step
        for column in range(int(first), min(int(last) + 1, columns)):
            load[column] += max(min(last, column + 1) - max(first, column), 0.0)
    return load


def _peak(spans: Sequence[Span]) -> int:
    """Return the largest number of spans at one time."""
    changes = [(span.start, 1) for span in spans] + [(span.end, -1) for span in spans]
    key: Callable[[tuple[float, int]], tuple[float, int]] = lambda change: change  # noqa: E731
    highest = now = 0
    for _, change in sorted(changes, key=key):
        now += change
        highest = max(highest, now)
    return highest
