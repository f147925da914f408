"""Every row of the threat model has a test, and what can be read from the source is read here.

The rows are those of docs/concepts/trust.md and of the design's threat model, T1 to T18.
"""

from __future__ import annotations

import ast
import fnmatch
import itertools
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hpc_flows"

#: Where each row is tried, one test for each thing that it says; `file: test`, below tests/. What
#: many tests of one file try is named by their beginning and a star.
ROWS = {
    "T1": (
        "acceptance/test_server_command.py: test_t1_*",
        "conformance/test_tunnels.py: test_another_user_cannot_use_it",
        "conformance/test_reverse_tunnels.py: test_another_user_there_is_kept_out",
    ),
    "T2": (
        "unit/test_server_denials.py: test_every_way_in_asks_who_is_there",
        "unit/test_server_denials.py: test_t2_*",
        "unit/test_server_login.py: test_t5_the_database_keeps_hashes_only",
        "unit/test_server_login.py: test_a_token_has_256_bits_of_chance_and_its_stated_form",
        "unit/test_server_login.py: test_a_token_expires_by_the_clock",
    ),
    "T3": ("unit/test_server_guard.py: test_t3_*", "unit/test_server_login.py: test_t3_*"),
    "T4": (
        "unit/test_server_login.py: test_t4_*",
        "unit/test_server_guard.py: test_t3_every_answer_carries_what_browsers_must_not_do",
    ),
    "T5": (
        "acceptance/test_secrets_stay_secret.py: test_no_artefact_of_a_run_holds_a_secret",
        "acceptance/test_secret_search.py: test_a_secret_is_found_in_*",
        "acceptance/test_server_command.py: test_t5_*",
        "page/test_page_secrets.py: test_t5_*",
        "unit/test_client.py: test_t5_*",
        "unit/test_cli_config.py: test_t5_*",
        "unit/test_event.py: test_t5_*",
        "unit/test_prefect_trouble.py: test_t5_*",
        "unit/test_server_login.py: test_t5_*",
        "unit/test_slurm_build.py: test_keys_of_servers_do_not_become_part_of_jobs",
        "unit/test_settings.py: test_a_secret_is_neither_pickled_nor_in_a_repr_*",
    ),
    "T6": (
        "test_threats.py: test_t6_what_is_reported_is_never_unpickled",
        "unit/test_kept_results.py: test_a_changed_file_is_not_unpickled",
        "unit/test_payload.py: test_a_payload_signed_with_another_key_is_not_unpickled",
        "unit/test_journal_writer.py: test_a_key_that_others_could_have_changed_is_not_used",
        "unit/test_journal_writer.py: test_the_folder_of_a_run_is_its_owners_alone",
    ),
    "T7": (
        "unit/test_script.py: test_t7_no_text_becomes_a_directive_or_a_command",
        "unit/test_script.py: test_a_task_name_cannot_break_out_of_its_comment",
        "unit/test_slurm_build.py: test_a_newline_cannot_bring_a_line_into_the_script",
        "unit/test_server_login.py: test_t7_names_of_users_and_projects_are_plain_words",
        "unit/test_ssh_destination.py: test_nothing_that_is_read_can_be_an_option_*",
    ),
    "T8": (
        "unit/test_server_guard.py: test_t8_*",
        "unit/test_result_store.py: test_no_key_leads_out_of_the_folder",
        "unit/test_relay_parts.py: test_orders_for_what_is_no_run_of_this_home_are_refused",
    ),
    "T9": (
        "unit/test_server_guard.py: test_t9_*",
        "page/test_page_build.py: test_the_page_has_no_inline_code_and_makes_none",
        "page/test_page_build.py: test_no_source_puts_data_into_markup",
        "page/test_run_page.py: test_names_and_texts_of_others_are_text_and_nothing_else",
        "page/test_run_page.py: test_artifacts_are_shown_by_their_kind_*",
        "page/test_export.py: test_the_policy_of_an_exported_run_lets_no_other_script_run",
    ),
    "T10": (
        "conformance/test_tunnels.py: test_a_changed_host_key_is_never_accepted",
        "conformance/test_tunnels.py: test_a_configuration_without_key_checks_is_not_followed",
        "conformance/test_tunnels.py: test_an_unknown_host_is_not_trusted",
        "unit/test_ssh_folder.py: test_it_is_private_even_if_it_was_not",
        "test_threats.py: test_t10_ssh_is_never_told_to_trust_or_to_lend_keys",
    ),
    "T11": (
        "unit/test_server_login.py: test_t11_*",
        "unit/test_client.py: test_a_stranger_never_sees_the_token",
        "unit/test_client.py: test_who_answers_on_a_new_connection_proves_itself_anew",
        "conformance/test_tunnels.py: test_a_server_that_is_not_the_right_one_is_no_tunnel",
        "unit/test_endpoint.py: test_a_token_that_others_can_read_is_refused",
    ),
    "T12": ("unit/test_server_denials.py: test_t12_*",),
    "T13": (
        "test_threats.py: test_t13_nothing_that_comes_over_the_wire_is_run",
        "unit/test_relay_parts.py: test_an_action_that_no_driver_knows_is_refused",
    ),
    "T14": (
        "unit/test_server_guard.py: test_t14_*",
        "unit/test_server_schema.py: test_t14_*",
    ),
    "T15": (
        "unit/test_server_denials.py: test_t15_*",
        "unit/test_server_strangers.py: test_t15_*",
        "unit/test_server_stream.py: test_t15_*",
    ),
    "T16": (
        "unit/test_server_database.py: test_the_file_is_its_owners_alone_whatever_the_umask",
        "acceptance/test_server_command.py: test_t16_*",
        "test_threats.py: test_t16_files_are_made_so_that_no_link_leads_them_elsewhere",
        "test_threats.py: test_t16_scripts_of_jobs_begin_with_their_umask",
        "unit/test_ssh_folder.py: test_a_link_in_its_place_is_not_followed",
        "unit/test_ssh_folder.py: test_a_folder_of_somebody_else_is_refused",
    ),
    "T17": (
        "page/test_page_build.py: test_the_lock_names_no_registry_and_every_package_has_its_hash",
        "page/test_page_build.py: test_nothing_in_the_page_leads_to_another_origin",
    ),
    "T18": ("test_threats.py: test_t18_*",),
}

#: What takes in reports, and what sends them.
REMOTE = ("server", "client", "reporting")
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
RUNNERS = {"eval", "exec", "compile"}

#: Hosts that are named in messages and help, and that nobody asks: this machine, and examples.
NAMED = re.compile(r"127\.0\.0\.1|localhost|host|evil|…|\{[a-z_.]+\}|[a-z.]*example\.(org|com|edu)")


def _sources(*packages: str) -> list[Path]:
    return sorted(path for name in packages for path in (PACKAGE / name).rglob("*.py"))


@pytest.mark.parametrize(("row", "where"), [(row, each) for row in ROWS for each in ROWS[row]])
def test_every_row_has_its_tests(row: str, where: str) -> None:
    file, name = where.split(": ")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    tests = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in tree.body if isinstance(node, tests)}
    assert fnmatch.filter(names, name), f"{row}: {where}"


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


def test_t10_ssh_is_never_told_to_trust_or_to_lend_keys() -> None:
    text = "".join(path.read_text() for path in _sources("transports"))
    assert "ForwardAgent=no" in text
    for word in (
        *("StrictHostKeyChecking=no", "StrictHostKeyChecking=off", "UserKnownHostsFile=/dev/null"),
        *("accept-new", "ForwardAgent=yes", '"-A"', "AutoAddPolicy", "WarningPolicy"),
        *("sshpass", "SSH_ASKPASS_REQUIRE=force", "id_rsa", "PasswordAuthentication=yes"),
    ):
        assert word not in text, word


#: Makers of files whose place is the user's own choice, which may be a link.
CHOSEN = {
    "reporting/file_sink.py": "the file that `report=` names, such as a link to a larger disk",
    "server/db/opening.py": "the database that `--database` names",
    "mock_cluster/supervisor.py": "a job's output, as slurmd opens it",
    "mock_cluster/client/steps.py": "the same of a step",
}


def _opening_flags(path: Path) -> list[str]:
    """Return the flags of a file's calls of `os.open` that may make a file, names resolved."""
    tree = ast.parse(path.read_text())
    named = {
        target.id: ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.open":
            text = " ".join(map(ast.unparse, node.args[1:]))
            words = re.findall(r"\w+", text)
            found.append(" ".join([text, *(named.get(word, "") for word in words)]))
    return [text for text in found if "O_CREAT" in text]


def test_t16_files_are_made_so_that_no_link_leads_them_elsewhere() -> None:
    """Whatever is made with `os.open` is made anew, or is no link; names by chance are `mkstemp`'s.

    Files made with `open` lie in folders that only their owner can write to.
    """
    made = [
        (str(path.relative_to(PACKAGE)), flags)
        for path in _sources("")
        for flags in _opening_flags(path)
    ]
    assert len(made) > 10
    followed = {path for path, flags in made if not re.search(r"O_NOFOLLOW|O_EXCL", flags)}
    assert followed == set(CHOSEN)
    assert not [path for path in _sources("") if "tempfile.mktemp(" in path.read_text()]


@pytest.mark.parametrize("name", ["job.sh.j2", "array.sh.j2"])
def test_t16_scripts_of_jobs_begin_with_their_umask(name: str) -> None:
    lines = (ROOT / "slurm_templates" / name).read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "{%", "{{"))]
    assert commands[0] == "umask 077"


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


def test_t18_no_package_counts_or_reports_those_who_use_it() -> None:
    tellers = re.compile(
        r"amplitude|analytics|posthog|sentry|segment|mixpanel|datadog|telemetry|newrelic|bugsnag"
    )
    lock = json.loads((PACKAGE / "server" / "page" / "package-lock.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain(*project["optional-dependencies"].values())
    wanted = [*project["dependencies"], *extras]
    assert len(lock["packages"]) > 10
    assert len(wanted) > 5
    assert not [name for name in (*lock["packages"], *wanted) if tellers.search(name.lower())]
