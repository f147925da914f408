"""What the bench prints, and what it writes as JSON."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.measure import Outcome, Verdict

#: Seconds are printed in the largest unit that leaves a number above one.
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def amount(value: float, unit: str) -> str:
    """Return a figure with its unit, such as `18.4 ms` or `10,786`."""
    if unit != "s":
        return f"{value:,.0f}"
    size, name = next((pair for pair in UNITS if value >= pair[0]), UNITS[-1])
    return f"{value / size:.3g} {name}"


def table(outcome: Outcome) -> str:
    """Return a contest's figures, ratios and verdicts as text."""
    contest = outcome.contest
    ours = outcome.medians.get("hpc_flows", {})
    lines = [f"\n{contest.name}   (medians of {contest.rounds})"]
    for side in contest.sides:
        taken = outcome.medians.get(side)
        if taken is None:
            lines.append(f"  {side:<28} did not run: {outcome.failures.get(side, '?')}")
            continue
        cells = [
            f"{figure} {amount(taken[figure], unit):>9}{_ratio(side, taken, ours, figure)}"
            for figure, unit in contest.shown
            if figure in taken
        ]
        lines.append(f"  {side:<28} " + "   ".join(cells))
    lines.extend(f"  {sentence(verdict)}" for verdict in outcome.verdicts)
    return "\n".join(lines)


def _ratio(side: str, taken: dict[str, float], ours: dict[str, float], figure: str) -> str:
    if side == "hpc_flows" or not ours.get(figure):
        return " " * 11
    return f" ({taken[figure] / ours[figure]:>6.3g} x)"


def sentence(verdict: Verdict) -> str:
    """Return a budget's verdict as one line."""
    budget = verdict.budget
    if verdict.value is None:
        return f"{'?':<5} {budget.text}: not measured"
    word = "PASS" if verdict.kept else "over"
    if budget.against is not None:
        return f"{word:<5} {budget.text}: {verdict.value:.3g} x {budget.against}"
    return f"{word:<5} {budget.text}: {verdict.value:.4g}"


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return everything that was measured, for `--json`."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "argv": sys.argv[1:],
        "contests": [_contest(outcome) for outcome in outcomes],
    }


def _contest(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.contest.name,
        "medians": outcome.medians,
        "samples": outcome.samples,
        "failures": outcome.failures,
        "budgets": [
            {
                "text": verdict.budget.text,
                "limit": verdict.budget.limit,
                "value": verdict.value,
                "kept": verdict.kept,
            }
            for verdict in outcome.verdicts
        ],
    }
