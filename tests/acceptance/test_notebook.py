"""The notebook of the documentation runs, and is kept without its outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("h5py")

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "examples" / "first_flow.ipynb"

#: What the code cells show; None for those that show nothing, or what is not always the same.
SHOWN = [
    None,
    "12.0",
    "[0, 1, 2]",
    "[0, 1, 4, 9, 16]",
    "'Good morning, Ada; rm -rf nothing'",
    "[(100, True), (101, True), (104, True)]",
    "[0.0, 0.25, 1.0]",
    ...,
]


def test_the_notebook_runs_in_a_kernel(tmp_path: Path, home: Path) -> None:
    runner = Path(__file__).with_name("run_notebook.py")
    bin_folder = str(Path(sys.executable).parent)
    done = subprocess.run(
        [sys.executable, str(runner), str(NOTEBOOK)],
        cwd=tmp_path,
        env=os.environ
        | {
            "HPC_FLOWS_HOME": str(home),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    shown = json.loads(done.stdout)
    assert [value for value, expected in zip(shown, SHOWN, strict=True) if expected is not ...] == [
        expected for expected in SHOWN if expected is not ...
    ]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == len(SHOWN)
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []
