"""Run a notebook and print, as JSON, the value that each of its code cells shows."""

from __future__ import annotations

import json
import sys

import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
values = [
    next((o["data"]["text/plain"] for o in cell.outputs if o.output_type == "execute_result"), None)
    for cell in notebook.cells
    if cell.cell_type == "code"
]
sys.stdout.write(json.dumps(values))
