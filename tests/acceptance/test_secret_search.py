"""The search for secrets finds them: planted in every kind of place, in every form."""

from __future__ import annotations

import base64
import gzip
import json
import os
import sqlite3
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
import secret_search
from secret_search import Search, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: With signs that URLs, JSON and Python write differently.
SECRET = 'ada:pass/wörd+"1%'  # noqa: S105 - nobody's
PLAIN = "pnu_canary9f3c61aa77"

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "base64": base64.b64encode,
    "base64 behind one byte": lambda text: base64.b64encode(b":" + text + b"more"),
    "base64 behind two bytes": lambda text: base64.b64encode(b"ab" + text),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(b"\xff\xff" + text),
    "url": lambda text: quote(text, safe="").encode(),
    "a query": lambda text: urlencode({"token": text}).encode(),
    "json": lambda text: json.dumps({"x": [text.decode()]}).encode(),
    "json in utf-8": lambda text: json.dumps(text.decode(), ensure_ascii=False).encode(),
    "json in json": lambda text: json.dumps({"body": text.decode()}).encode(),
    "hex": lambda text: text.hex().encode(),
    "a python literal": lambda text: repr({"key": text.decode()}).encode(),
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "gzip": lambda text: gzip.compress(b"x" * 5000 + text),
    "gzip of two members": lambda text: gzip.compress(b"x") + gzip.compress(text),
    "zlib": lambda text: zlib.compress(b"y" * 5000 + text),
    "base64 in gzip": lambda text: gzip.compress(base64.b64encode(text)),
    "a torn gzip": lambda text: gzip.compress(text + os.urandom(500))[:-20],
}


@pytest.fixture
def search() -> Search:
    return Search({"auth": SECRET, "key": PLAIN})


def names_of(search: Search) -> set[str]:
    return {finding.secret for finding in search.findings}


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form_in_which_it_may_be_written(
    search: Search, form: str, secret: str
) -> None:
    search.text("log", "here", FORMS[form](b"nothing to be found"))
    assert search.findings == []
    search.text("log", "here", FORMS[form](secret.encode()))
    assert names_of(search) == {"auth" if secret == SECRET else "key"}


def test_what_is_found_is_named_and_never_repeated(search: Search) -> None:
    search.text("answer", "GET /me", f"token={PLAIN}")
    (finding,) = search.findings
    assert (finding.secret, finding.place, finding.form) == ("key", "answer GET /me", "plain")
    assert PLAIN not in str(search.findings)


def test_half_of_a_secret_and_its_hash_are_no_finding(search: Search) -> None:
    search.text("log", "here", PLAIN[:-1] + "\n" + PLAIN[1:-2] + "ada:pass")
    search.value("row", "tokens.hash", zlib.crc32(PLAIN.encode()).to_bytes(4, "big"))
    assert search.findings == []
    assert search.looked_at == {"log": 1, "row": 1}


def test_a_secret_that_would_be_in_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="auth is too short"):
        Search({"auth": "a:b"})


@pytest.mark.parametrize("at", [0, 5, 17, 31])
def test_a_secret_across_two_blocks_of_a_file_is_found(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(secret_search, "BLOCK", 32)
    longest = max(map(len, forms_of(SECRET)))
    for form in ("plain", "base64", "url"):
        content = b"." * (32 * 5 + at) + FORMS[form](SECRET.encode()) + b"." * longest
        (tmp_path / form).write_bytes(content)
    search.tree(tmp_path)
    assert {finding.form for finding in search.findings} == {"plain", "base64", "url"}


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_packed_file_is_looked_into(
    search: Search, tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "export.gz").write_bytes(packed(b"z" * 100_000 + PLAIN.encode()))
    search.tree(tmp_path)
    assert names_of(search) == {"key"}


def test_names_of_files_folders_links_and_sockets_are_looked_at(
    search: Search, tmp_path: Path
) -> None:
    for number, name in enumerate((PLAIN, f"{PLAIN}.sock")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).touch()
        search.tree(folder)
        assert names_of(search) == {"key"}
        search.findings.clear()
    (tmp_path / "link").symlink_to(f"/nowhere/{PLAIN}")
    search.tree(tmp_path / "1", tmp_path, but=[tmp_path / "1" / f"{PLAIN}.sock"])
    assert any("link" in finding.place for finding in search.findings)
    search.findings.clear()
    (tmp_path / "folder" / PLAIN).mkdir(parents=True)
    search.tree(tmp_path / "folder")
    assert names_of(search) == {"key"}


def test_a_file_that_may_hold_a_secret_is_passed_over_and_its_name_is_not(
    search: Search, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(PLAIN)
    search.tree(tmp_path, but=[tmp_path / "token"])
    assert search.findings == []
    search.tree(tmp_path)
    assert names_of(search) == {"key"}


def test_rows_are_looked_at_as_texts_bytes_and_json(search: Search, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE t (a TEXT, b BLOB, c INTEGER, d TEXT)")
        database.execute("INSERT INTO t VALUES ('a', x'00', 3, NULL)")
        rows = database.execute("SELECT * FROM t").fetchall()
    database.close()
    for row in rows:
        for value in row:
            search.value("row", "t", value)
    assert search.findings == []
    for value in (PLAIN, PLAIN.encode(), memoryview(PLAIN.encode()), [{"k": PLAIN}], (PLAIN,)):
        search.value("row", "t", value)
        assert names_of(search) == {"key"}, value
        search.findings.clear()
