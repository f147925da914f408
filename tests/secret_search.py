"""Finds secrets in whatever a run, a server or a machine leaves behind.

A secret is looked for as it is and as it is often written: in base64 at any place of what was
encoded (as in `Authorization: Basic`), URL-encoded, escaped as JSON does it, in hexadecimal and as
UTF-16. What was packed with gzip or zlib is looked into. Files are read in blocks, which a secret
may straddle.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BLOCK = 1 << 20
#: What is unpacked of one file or value, at most.
UNPACKED = 64 << 20
#: How deep what is packed in what is packed is followed.
_DEEP = 3
_GZIP, _ZLIB = b"\x1f\x8b\x08", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Finding(NamedTuple):
    """A secret that was found: its name (never itself), where, and in which form."""

    secret: str
    place: str
    form: str


def forms_of(secret: str) -> dict[bytes, str]:
    """Return the bytes by which a secret betrays itself, and what each is called."""
    plain = secret.encode()
    found = {plain: "plain"}
    for form, text in (
        ("url", quote(secret, safe="")),
        ("url", quote(secret)),
        ("url", quote_plus(secret)),
        ("json", json.dumps(secret)[1:-1]),
        ("json", json.dumps(secret, ensure_ascii=False)[1:-1]),
        ("json", json.dumps(secret)[1:-1].replace("/", "\\/")),
        ("hex", plain.hex()),
        ("hex", plain.hex().upper()),
        ("repr", repr(secret)[1:-1]),
    ):
        found.setdefault(text.encode(), form)
    found.setdefault(secret.encode("utf-16-le"), "utf-16")
    for text in _in_base64(plain):
        found.setdefault(text, "base64")
    return found


def _in_base64(plain: bytes) -> Iterator[bytes]:
    """Give what base64 makes of it behind 0, 1 or 2 other bytes, without what these change."""
    for before in range(3):
        whole = b"\0" * before + plain
        text = base64.b64encode(whole)
        first = -(-before * 8 // 6)
        sure = len(whole) * 8 // 6
        yield text[first:sure]
        yield base64.urlsafe_b64encode(whole)[first:sure]


class Search:
    """Looks for some secrets, and notes what it has found.

    Args:
        secrets: the secrets by what they are called in findings.

    Attributes:
        looked_at: how many places there were of each kind.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms: dict[bytes, tuple[str, str]] = {}
        for name, secret in secrets.items():
            if len(secret) < 8:
                raise ValueError(f"{name} is too short: it would be found in anything")
            self._forms |= {text: (name, form) for text, form in forms_of(secret).items()}
        self._longest = max(map(len, self._forms))
        self.findings: list[Finding] = []
        self.looked_at: dict[str, int] = {}

    def text(self, kind: str, place: str, content: str | bytes) -> None:
        """Look at one text, wherever it is from."""
        self._count(kind)
        raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
        self._in_bytes(f"{kind} {place}", raw)

    def value(self, kind: str, place: str, content: Any) -> None:
        """Look at a value of a database or an answer: a text, bytes, or what is made of them."""
        if isinstance(content, memoryview):
            content = bytes(content)
        if isinstance(content, str | bytes):
            self.text(kind, place, content)
        elif content is not None:
            self.text(kind, place, json.dumps(content, default=str))

    def names(self, kind: str, names: Iterable[str]) -> None:
        """Look at names: of jobs, files, sockets, processes."""
        for name in names:
            self.text(kind, repr(name[:80]), name)

    def file(self, path: Path) -> None:
        """Look at a file: at its path, at what a link leads to, and at what is in it."""
        self.text("path", "of a file", str(path))
        if path.is_symlink():
            self.text("path", "of a link's aim", os.readlink(path))
        elif path.is_file():
            self._count("file")
            self._in_blocks(path)

    def tree(self, *folders: Path, but: Iterable[Path] = ()) -> None:
        """Look at all names below folders, and into all files but some."""
        left = set(but)
        for folder in folders:
            for at, inner, files in os.walk(folder):
                self.names("name", [*inner, *files])
                for name in files:
                    if Path(at, name) not in left:
                        self.file(Path(at, name))

    def _count(self, kind: str) -> None:
        self.looked_at[kind] = self.looked_at.get(kind, 0) + 1

    def _in_blocks(self, path: Path) -> None:
        place, tail, head = f"file {path}", b"", b""
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    head = head or block
                    self._in_plain(place, tail + block)
                    tail = (tail + block)[-self._longest :]
                if _is_packed(head):
                    file.seek(0)
                    self._in_packed(place, file.read(UNPACKED), 1)
        except FileNotFoundError:  # the database's journal, or a lease, has gone meanwhile
            return

    def _in_bytes(self, place: str, content: bytes, depth: int = 0) -> None:
        self._in_plain(place, content)
        if depth < _DEEP and _is_packed(content):
            self._in_packed(place, content, depth + 1)

    def _in_packed(self, place: str, content: bytes, depth: int) -> None:
        self._in_bytes(f"{place} (unpacked)", _unpacked(content), depth)

    def _in_plain(self, place: str, content: bytes) -> None:
        for text, (name, form) in self._forms.items():
            if text in content:
                finding = Finding(name, place, form)
                if finding not in self.findings:
                    self.findings.append(finding)


def _is_packed(content: bytes) -> bool:
    return content[:3] == _GZIP or content[:2] in _ZLIB


def _unpacked(content: bytes) -> bytes:
    """Return what was packed, as far as it can be read."""
    wbits = 31 if content[:3] == _GZIP else 15
    unpacker, made = zlib.decompressobj(wbits), b""
    try:
        while content and len(made) < UNPACKED:
            made += unpacker.decompress(content, UNPACKED)
            content = unpacker.unused_data
            unpacker = zlib.decompressobj(wbits)
    except zlib.error:  # it only looked like it, or it is torn
        pass
    return made
