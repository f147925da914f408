"""The server's database: opened, migrated, named, claimed, copied, swept, filled from journals."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cli_runs import WrittenRun
from server_data import ALL, add_user, derived, lines, stored
from server_stories import long_story
from sqlalchemy import func, make_url, select, text

from hpc_flows.exceptions import ServerError
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.server import imports, owning
from hpc_flows.server.backup import backup
from hpc_flows.server.db import Database, DatabaseError, Sight, open_database, visible
from hpc_flows.server.db import models as m
from hpc_flows.server.db.migrations import newest_version, upgrade, version_of
from hpc_flows.server.imports import import_home
from hpc_flows.server.ingest import Ingest, RunGone
from hpc_flows.server.queries import task_runs
from hpc_flows.server.retention import delete_run, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'server' / 'server.db'}"
    created: str = request.getfixturevalue("postgresql_url")
    return created


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = open_database(url)
    database.migrate()
    add_user(database)
    yield database
    database.close()


def fill(database: Database, run: str = "run-1") -> Ingest:
    ingest = Ingest(database)
    ingest.register(run, {}, 1, None)
    ingest.take(run, lines(long_story().events), 1)
    return ingest


def test_migrations_make_the_tables_that_the_models_describe(url: str) -> None:
    database = open_database(url)
    assert not database.is_current()
    assert database.migrate() == newest_version()
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), m.metadata) == []
    instance = database.instance
    database.migrate()
    assert database.instance == instance
    assert database.is_current()
    database.close()


def test_each_version_of_the_tables_leads_to_the_newest_with_its_rows(url: str) -> None:
    """Fills the first version with rows as they were, then takes all steps."""
    database = open_database(url)
    with database.engine.connect() as connection:
        upgrade(connection, "0001")
    with database.writing() as connection:
        connection.execute(text("INSERT INTO users VALUES (1, 'ada', false, 1.0, NULL)"))
        row = (
            "INSERT INTO runs VALUES "
            "(1, 'old', 1, NULL, 'n', 'f', 1.0, 1.0, NULL, '{}', NULL, NULL, 2.0, 3, 2.0, 9, 0)"
        )
        connection.execute(text(row))
    database.migrate()
    with database.reading() as connection:
        assert version_of(connection) == newest_version()
        assert connection.scalar(select(m.runs.c.id).where(visible(ALL))) == "old"
    database.close()


def test_tables_of_a_newer_version_are_left_alone(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="version 9999, which this hpc_flows does not know"):
        database.migrate()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("oracle://x/y", "is no kind of database"),
        ("not an address", "is no kind of database"),
        ("sqlite://", "names no file"),
        ("sqlite:///relative.db", "names no file"),
        ("sqlite:////proc/nowhere/server.db", "cannot be made"),
        ("postgresql://nobody@/nothing?host=/nowhere/at/all", "refuses"),
    ],
)
def test_an_address_that_cannot_be_opened_is_explained(url: str, told: str) -> None:
    with pytest.raises(DatabaseError, match=told):
        open_database(url)


def test_a_python_with_an_old_sqlite_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of Enterprise Linux 8 is 3.26."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    with pytest.raises(DatabaseError, match=r"needs 3\.33 or newer"):
        open_database(f"sqlite:///{tmp_path}/server.db")


def test_no_message_shows_the_databases_password() -> None:
    with pytest.raises(DatabaseError) as error:
        open_database("postgresql://ada:hunter2@/x?host=/nowhere/at/all")
    assert "hunter2" not in str(error.value)


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = open_database(f"sqlite:///{tmp_path}/new/server.db")
        database.migrate()
        fill_user = add_user(database)
        assert fill_user == 1
        modes = {path.name: path.stat().st_mode for path in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    database.close()
    assert "server.db-wal" in modes
    assert {stat.S_IMODE(mode) for mode in modes.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.services
def test_one_server_claims_a_postgresql_and_a_second_one_is_told(postgresql_url: str) -> None:
    first, second = open_database(postgresql_url), open_database(postgresql_url)
    assert first.claim()
    assert first.claim()
    assert not second.claim()
    first.close()
    assert second.claim()
    second.close()


def test_sights_see_what_is_theirs(database: Database) -> None:
    ingest = fill(database)
    bob = add_user(database, "bob")
    with database.writing() as connection:
        connection.execute(text("INSERT INTO projects VALUES (5, 'lab', 1.0)"))
    ingest.register("bobs", {}, bob, 5)

    def seen(sight: Sight) -> set[str]:
        with database.reading() as connection:
            return set(connection.scalars(select(m.runs.c.id).where(visible(sight))))

    assert seen(ALL) == {"run-1", "bobs"}
    assert seen(Sight(1)) == {"run-1"}
    assert seen(Sight(bob)) == {"bobs"}
    assert seen(Sight(1, projects=frozenset({5}))) == {"run-1", "bobs"}
    assert seen(Sight(None)) == set()
    assert seen(Sight(1, run="bobs")) == set()
    assert seen(Sight(1, is_admin=True, run="bobs")) == {"bobs"}


def test_a_sweep_takes_what_ended_long_ago_and_nothing_else(database: Database) -> None:
    ingest = fill(database)  # ended in 1970
    ingest.register("living", {}, 1, None)
    with pytest.raises(ValueError, match="more than 0 days"):
        sweep(database, 0)
    assert sweep(database, 30) == ["run-1"]
    assert sweep(database, 30) == []
    with database.reading() as connection:
        assert list(connection.scalars(select(m.runs.c.id))) == ["living"]
        for table in m.metadata.sorted_tables:
            if "run_pk" in table.c or table.name in ("task_run_facts", "job_parts", "job_statuses"):
                assert connection.scalar(select(func.count()).select_from(table)) == 0, table.name
    with pytest.raises(RunGone, match="30 days ago"):
        ingest.take("run-1", b"", 1)


def test_deleting_one_run_leaves_the_others_whole(database: Database) -> None:
    ingest = fill(database)
    ingest.register("run-0", {}, 1, None)
    with database.reading() as connection:
        before = stored(connection, "run-1"), derived(connection, "run-1")
    delete_run(database, "run-0", "a test")
    with database.reading() as connection:
        assert (stored(connection, "run-1"), derived(connection, "run-1")) == before


def test_a_copy_of_a_living_sqlite_is_whole_and_private(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/server.db")
    database.migrate()
    add_user(database)
    ingest = fill(database)
    copy = tmp_path / "copy.db"
    with database.reading() as reader:  # nobody has to stop
        reader.execute(select(m.runs)).all()
        assert backup(database, str(copy)) == copy.stat().st_size
    ingest.register("later", {}, 1, None)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("copy.db?*"))
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [("run-1",)]
    connection.close()
    with pytest.raises(DatabaseError, match="is there already"):
        backup(database, str(copy))
    with pytest.raises(DatabaseError, match="cannot be written"):
        backup(database, str(tmp_path / "none" / "copy.db"))
    database.close()


@pytest.mark.services
def test_a_postgresql_is_copied_with_its_own_program(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(postgresql_url)
    database.migrate()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatabaseError, match="Install PostgreSQL's client programs"):
        backup(database, str(tmp_path / "dump"))
    assert not (tmp_path / "dump").exists()
    monkeypatch.undo()
    if backup_program() is None:
        pytest.skip("pg_dump is not installed")
    assert backup(database, str(tmp_path / "dump")) > 1000
    assert (tmp_path / "dump").read_bytes().startswith(b"PGDMP")
    database.close()


def test_an_interrupted_copy_leaves_no_empty_file_that_passes_for_one(
    database: Database, tmp_path: Path
) -> None:
    left_over = tmp_path / "copy.part"
    left_over.write_bytes(b"")
    with pytest.raises(DatabaseError, match=r"copy\.part is there already"):
        backup(database, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
    assert left_over.exists()


@pytest.mark.parametrize(
    "address", ["me:geheim@db/runs?sslmode=require", "me@db/runs?password=geheim"]
)
def test_t5_no_password_of_a_database_is_in_arguments_or_messages(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "$PGPASSWORD" > {tmp_path}/password\n'
        "exit 1\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # Not opened: nobody answers there.
    database = Database(make_url(f"postgresql+psycopg://{address}"))
    with pytest.raises(DatabaseError, match="pg_dump cannot copy") as raised:
        backup(database, str(tmp_path / "copy"))
    assert "geheim" not in (tmp_path / "arguments").read_text() + str(raised.value)
    assert (tmp_path / "password").read_text() == "geheim\n"
    assert not list(tmp_path.glob("copy*"))


def backup_program() -> str | None:
    import shutil

    return shutil.which("pg_dump")


def test_runs_made_before_the_server_are_imported_once(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    for at in range(50):
        run.task_run(1 + at, f"t{at}", "train")
        run.state(60 + at, f"t{at}", "COMPLETED", "Completed")
    run.job(2, "tok", "77", ["t1"])
    scripts = Path(run.folder, "jobs", "tok")
    scripts.mkdir(parents=True)
    (scripts / "script.sh").write_text("#!/bin/bash\necho hello\n")
    with Path(run.folder, "journal", "driver.jsonl").open("ab") as journal:
        journal.write(b'{"v":1,"run":"8c3f2a10-run","writer":"driver","seq":9999')  # torn
    broken = home / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    said: list[str] = []
    imported = import_home(database, str(home), 1, say=said.append)
    assert imported.runs == [run.id]
    assert imported.events == len(read_run(run.folder))
    assert "journal" in imported.left["broken"]
    assert said == [f"{run.id}: {imported.events} events"]
    with database.reading() as connection:
        assert stored(connection, run.id) == replay(read_run(run.folder)).to_dict()
        from hpc_flows.server.queries import jobs

        found: Any = jobs.job(connection, ALL, run.id, "tok")
        assert found["script"] == "#!/bin/bash\necho hello\n"
        chosen = task_runs.TaskRunFilter(run=run.id)
        assert task_runs.list_task_runs(connection, ALL, chosen)["total"] == 50
    assert import_home(database, str(home), 1).events == 0
    assert import_home(database, str(tmp_path / "nothing"), 1).runs == []
    assert import_home(database, str(home), 1, wanted=["another"]).left == {}
    delete_run(database, run.id, "a test")
    assert "was deleted here" in import_home(database, str(home), 1).left[run.id]


def test_a_second_import_reads_what_has_come_since(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    run.task_run(1, "t0", "train")
    journal = Path(run.folder, "journal", "driver.jsonl")
    first = import_home(database, str(home), 1)
    assert (first.read, first.unchanged) == (journal.stat().st_size, 0)
    again = import_home(database, str(home), 1)
    assert (again.read, again.unchanged, again.events, again.repeated) == (0, 1, 0, 0)
    before = journal.stat().st_size
    run.state(60, "t0", "COMPLETED", "Completed")
    with journal.open("ab") as file:
        file.write(b'{"torn')
    more = import_home(database, str(home), 1)
    assert more.read == journal.stat().st_size - before - len(b'{"torn')
    assert (more.runs, more.events, more.repeated, more.unchanged) == ([run.id], 1, 0, 0)
    assert import_home(database, str(home), 1).unchanged == 1
    with database.reading() as connection:
        assert stored(connection, run.id) == replay(read_run(run.folder)).to_dict()


def test_an_import_that_was_killed_before_its_scripts_is_finished_by_the_next(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    run.job(2, "tok", "77", [])
    scripts = Path(run.folder, "jobs", "tok")
    scripts.mkdir(parents=True)
    (scripts / "script.sh").write_text("#!/bin/bash\n")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "attach", killed)
        with pytest.raises(KeyboardInterrupt):
            import_home(database, str(home), 1)
    finished = import_home(database, str(home), 1)
    assert (finished.events, finished.read, finished.unchanged) == (0, 0, 0)
    with database.reading() as connection:
        assert connection.scalar(select(m.attachments.c.content)) == "#!/bin/bash\n"
    assert import_home(database, str(home), 1).unchanged == 1


def test_a_journal_that_was_replaced_is_read_from_its_beginning(
    database: Database, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    for at in range(4):
        run.task_run(1, f"t{at}", "train")
    journal = Path(run.folder, "journal", "driver.jsonl")
    whole = journal.read_bytes()
    events = import_home(database, str(home), 1).events
    one, two, *rest = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join([two, one, *rest[::-1], b"no event of anybody\n"]))
    replaced = import_home(database, str(home), 1)
    assert (replaced.events, replaced.repeated, replaced.refused) == (0, events, 1)
    journal.write_bytes(one)  # shorter than what was read
    assert import_home(database, str(home), 1).repeated == 1


def test_a_hole_in_a_young_journal_is_looked_at_again(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    run.task_run(1, "t0", "train")
    journal = Path(run.folder, "journal", "driver.jsonl")
    *first, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(first) + bytes(len(last) - 1) + b"\n")
    young = import_home(database, str(home), 1)
    assert (young.events, young.refused) == (len(first), 0)
    journal.write_bytes(b"".join(first) + last)
    assert import_home(database, str(home), 1).events == 1
    journal.write_bytes(b"".join([*first, last]) + b"\0\n")
    os.utime(journal, (1e9, 1e9))
    assert import_home(database, str(home), 1).refused == 1


def test_what_follows_a_hole_that_nobody_fills_is_read_by_a_later_import(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    run.task_run(1, "t0", "train")
    journal = Path(run.folder, "journal", "driver.jsonl")
    one, two, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([one, bytes(len(two) - 1) + b"\n", *rest]))
    assert import_home(database, str(home), 1).events == 1
    monkeypatch.setattr(imports, "_HOLES_LAST", 0.0)  # a minute goes by, and nothing else happens
    later = import_home(database, str(home), 1)
    assert (later.events, later.refused) == (len(rest), 1)
    assert import_home(database, str(home), 1).unchanged == 1


def test_many_journals_and_long_ones_are_remembered_portion_by_portion(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_PORTION", 1000)
    home = tmp_path / "home"
    run = WrittenRun(home)
    for at in range(40):
        run.write(1 + at, "log", f"job-{at % 3}", level="INFO", message="x" * 99)
    taken = import_home(database, str(home), 1)
    assert taken.events == len(read_run(run.folder))
    assert import_home(database, str(home), 1).unchanged == 1
    with database.reading() as connection:
        assert stored(connection, run.id) == replay(read_run(run.folder)).to_dict()


def test_a_journal_that_is_a_link_is_not_followed(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = WrittenRun(home)
    secret = tmp_path / "secret.jsonl"
    Path(run.folder, "journal", "driver.jsonl").rename(secret)
    Path(run.folder, "journal", "driver.jsonl").symlink_to(secret)
    imported = import_home(database, str(home), 1)
    assert "cannot be read" in imported.left[run.id]


def test_a_writer_waits_for_another_process_and_readers_wait_for_nobody(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/server.db")
    database.migrate()
    add_user(database)
    with sqlite3.connect(tmp_path / "server.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        # One that waited would be refused in the end: what it waits for comes after it.
        with database.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(m.runs)) == 0
        other.execute("COMMIT")
    other.close()
    fill(database)
    database.close()


def test_a_file_that_a_server_on_another_machine_has_open_is_not_opened_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    here = owning.machine()
    with owning.opened(url) as database, owning.held(database):
        for another_container in (here, f"{here}0"):
            monkeypatch.setattr(owning, "machine", lambda it=another_container: it)
            with owning.opened(url) as same_machine:
                same_machine.ping()
        monkeypatch.setattr(owning, "machine", lambda: "another-boot pid:[1]")
        with (
            pytest.raises(ServerError, match="do this on"),
            owning.opened(url),
        ):
            pytest.fail("it was opened")
    with owning.opened(url) as free:
        free.ping()
