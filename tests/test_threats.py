"""Every row of the threat model has a test, and what can be read from the source is read here.

The rows are those of docs/concepts/trust.md and of the design's threat model, T1 to T18.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hpc_flows"

#: Where each row is tried; `file: test`, below tests/.
ROWS = {
    "T1": "acceptance/test_server_command.py: "
    "test_t1_another_local_user_reaches_neither_the_socket_nor_the_data",
    "T2": "unit/test_server_denials.py: test_t2_no_route_answers_without_a_token",
    "T3": "unit/test_server_guard.py: test_t3_changes_are_taken_from_the_own_origin_only",
    "T4": "unit/test_server_login.py: test_t4_a_code_logs_in_once",
    "T5": "acceptance/test_secrets_stay_secret.py: test_no_artefact_of_a_run_holds_a_secret",
    "T6": "unit/test_kept_results.py: test_a_changed_file_is_not_unpickled",
    "T7": "unit/test_slurm_build.py: test_a_newline_cannot_bring_a_line_into_the_script",
    "T8": "unit/test_server_guard.py: test_t8_no_path_leads_out_of_the_page",
    "T9": "unit/test_server_guard.py: "
    "test_t9_texts_that_are_scripts_come_back_as_json_that_no_browser_takes_for_a_page",
    "T10": "conformance/test_tunnels.py: test_a_changed_host_key_is_never_accepted",
    "T11": "unit/test_server_login.py: test_t11_the_server_proves_that_it_knows_a_tokens_hash",
    "T12": "unit/test_server_denials.py: test_t12_a_token_for_one_run_opens_nothing_else",
    "T13": "test_threats.py: test_t13_nothing_that_comes_over_the_wire_is_run",
    "T14": "unit/test_server_guard.py: test_t14_a_gzip_bomb_is_refused_before_it_grows",
    "T15": "unit/test_server_denials.py: test_t15_no_route_gives_or_changes_what_is_somebody_elses",
    "T16": "unit/test_server_database.py: test_the_file_is_its_owners_alone_whatever_the_umask",
    "T17": "page/test_page_build.py: "
    "test_the_lock_names_no_registry_and_every_package_has_its_hash",
    "T18": "test_threats.py: test_t18_no_host_of_others_stands_in_the_source",
}

#: What takes in reports, and what sends them.
REMOTE = ("server", "client", "reporting")
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
RUNNERS = {"eval", "exec", "compile"}

#: Hosts that are named in messages and help, and that nobody asks: this machine, and examples.
NAMED = re.compile(r"127\.0\.0\.1|localhost|host|evil|…|\{[a-z_.]+\}|[a-z.]*example\.(org|com|edu)")


def _sources(*packages: str) -> list[Path]:
    return sorted(path for name in packages for path in (PACKAGE / name).rglob("*.py"))


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_test(row: str) -> None:
    file, name = ROWS[row].split(": ")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_all_rows_are_there() -> None:
    assert list(ROWS) == [f"T{number}" for number in range(1, 19)]


@pytest.mark.parametrize("path", _sources(*REMOTE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_t6_what_is_reported_is_never_unpickled(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & UNPICKLERS


def test_t13_nothing_that_comes_over_the_wire_is_run() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources(*REMOTE)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in RUNNERS
    ]
    assert not found
    yaml = [path for path in _sources("") if re.search(r"^\s*(import|from) yaml", path.read_text())]
    assert not yaml, "YAML is read nowhere; where it will be, only with safe_load"


def test_t18_no_host_of_others_stands_in_the_source() -> None:
    """No telemetry: nothing is sent to anybody but the servers that a user names."""
    page = PACKAGE / "server" / "page"
    files = [*_sources(""), *(page / "src").rglob("*.ts*"), page / "index.html"]
    assert len(files) > 300
    found = {
        (str(path.relative_to(ROOT)), host)
        for path in files
        if "node_modules" not in path.parts
        for host in re.findall(r"(?:https?|wss?)://([^\s/:'\"`<>)\\]+)", path.read_text())
        if not NAMED.fullmatch(host)
    }
    assert not found
