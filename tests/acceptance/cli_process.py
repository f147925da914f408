"""The command line as users meet it: a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Shell:
    """A place to type commands in.

    Attributes:
        folder: the working directory.
        environment: variables on top of those of the tests.
    """

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What a failed test has left running would keep jobs and warnings alive.
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start hpc-flows in the background."""
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "hpc_flows", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            text=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run hpc-flows to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{arguments} did not end.\n{out}\n{err}") from None
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def good(self, *arguments: str, timeout: float = 120) -> str:
        """Run hpc-flows, expect success, and return what it printed."""
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Return what a command prints with `--json`."""
        return json.loads(self.good(*arguments, "--json"))

    def write(self, name: str, text: str) -> Path:
        """Write a file into the working directory."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path
