"""The page's colours can be read, and states keep apart for people who see fewer colours."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

TOKENS = Path(__file__).resolve().parents[2] / "hpc_flows/server/page/src/style/tokens.css"

Colour = tuple[float, float, float]

#: How red-blind, green-blind and blue-blind people see linear RGB: Machado, Oliveira and
#: Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009),
#: severity 1.0.
SIGHTS = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
#: States that stand side by side in bars and charts.
NEIGHBOURS = ("completed", "running", "pending", "failed", "crashed")
#: Distance in CIELAB below which neighbours are taken for one another at a glance.
APART = 12


def tokens(theme: str) -> dict[str, str]:
    """Return the colours of a theme by their variable, as `#rrggbb`."""
    found = re.findall(r"(--[\w-]+): light-dark\((#\w{6}), (#\w{6})\);", TOKENS.read_text())
    return {name: dark if theme == "dark" else light for name, light, dark in found}


def linear(text: str) -> Colour:
    parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG 2 defines it."""
    weights = (0.2126, 0.7152, 0.0722)
    lights = sorted(
        sum(w * part for w, part in zip(weights, linear(text), strict=True))
        for text in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def seen(colour: Colour, sight: str) -> Colour:
    red, green, blue = (
        min(1, max(0, sum(w * part for w, part in zip(row, colour, strict=True))))
        for row in SIGHTS[sight]
    )
    return red, green, blue


def lab(colour: Colour) -> Colour:
    rows = (
        (0.4124, 0.3576, 0.1805, 0.9505),
        (0.2126, 0.7152, 0.0722, 1.0),
        (0.0193, 0.1192, 0.9505, 1.089),
    )
    x, y, z = (
        curve(sum(w * part for w, part in zip(row[:3], colour, strict=True)) / row[3])
        for row in rows
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def curve(t: float) -> float:
    return float(t ** (1 / 3)) if t > 0.008856 else 7.787 * t + 16 / 116


def distance(one: Colour, other: Colour) -> float:
    gaps = zip(lab(one), lab(other), strict=True)
    return float(sum((a - b) ** 2 for a, b in gaps) ** 0.5)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "ink-soft", "ink-faint", "accent"])
@pytest.mark.parametrize("ground", ["ground", "surface", "hover", "accent-ground", "tint-warn"])
def test_text_has_the_contrast_that_small_text_needs(theme: str, ink: str, ground: str) -> None:
    colours = tokens(theme)
    assert contrast(colours[f"--{ink}"], colours[f"--{ground}"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signs_of_states_stand_out_from_their_ground(theme: str) -> None:
    colours = tokens(theme)
    states = {name: text for name, text in colours.items() if name.startswith("--state-")}
    assert len(states) == 9
    low = {
        name: round(contrast(text, colours["--surface"]), 2)
        for name, text in states.items()
        if contrast(text, colours["--surface"]) < 3
    }
    assert low == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_states_keep_apart_for_everybody(theme: str, sight: str) -> None:
    colours = tokens(theme)
    near = {}
    for one, other in combinations(NEIGHBOURS, 2):
        gap = distance(
            seen(linear(colours[f"--state-{one}"]), sight),
            seen(linear(colours[f"--state-{other}"]), sight),
        )
        if gap < APART:
            near[one, other] = round(gap, 1)
    assert near == {}
