"""Make docs/images/demo.svg from a real run of `hpc-flows demo` in a terminal (`make picture`)."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 110, 60
HERE = Path(__file__).parent

#: What a live display writes between two of its frames, besides colours.
MOVES = re.compile(r"\x1b\[(?P<count>\d*)(?P<what>[ABCDGHJK])|\x1b\[\?\d+[hl]|(?P<end>\r?\n)|\r")


def record(argv: list[str], folder: str) -> str:
    """Run a command in a pseudo-terminal and return everything that it wrote."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(HPC_FLOWS_HOME=f"{folder}/home", TERM="xterm-256color")
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.execvp(argv[0], argv)  # noqa: S606 - there is no shell in between
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the other side has closed
            break
        if not piece:
            break
        pieces.append(piece)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return b"".join(pieces).decode()


def screen(written: str) -> list[str]:
    """Return the lines that stand on the screen at the end, with their colours.

    Live displays rewrite whole lines: it is enough to know where the cursor's line is.
    """
    lines, row, done = [""], 0, 0
    for move in MOVES.finditer(written):
        lines[row] += written[done : move.start()]
        done = move.end()
        count = int(move["count"] or 1)
        if move["end"]:
            row += 1
        elif move["what"] == "A":
            row = max(0, row - count)
        elif move["what"] == "B":
            row += count
        elif move["what"] == "K":
            lines[row] = ""
        lines += [""] * (row + 1 - len(lines))
    lines[row] += written[done:]
    return [line.rstrip() for line in lines]


def cut(lines: list[str]) -> list[str]:
    """Leave the log and the flow's own table out, and what to try next; say where."""
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    log = next(number for number, line in enumerate(plain) if "| INFO " in line)
    live = next(number for number, line in enumerate(plain) if line.startswith("census on "))
    end = plain.index("What to try next")
    return [*lines[:log], "…", "", *lines[live:end]]


def main() -> None:
    """Run the demo and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = record([sys.executable, "-m", "hpc_flows", "demo"], folder)
        finally:
            record([sys.executable, "-m", "hpc_flows", "mock", "stop", "demo"], folder)
    lines = [line.replace(f"{folder}/", "") for line in screen(written)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(["$ hpc-flows demo", *cut(lines)])))
    picture = console.export_svg(title="hpc-flows demo", unique_id="demo")
    # The fonts that rich names lie on somebody's server; a picture asks nobody.
    picture = re.sub(r"@font-face \{.*?\}\n*", "", picture, flags=re.DOTALL)
    (HERE / "demo.svg").write_text(picture)


if __name__ == "__main__":
    main()
