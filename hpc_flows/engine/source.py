"""The text of a function, if it is still the text of the code that runs."""

from __future__ import annotations
import __future__

import ast
import inspect
import linecache
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The code objects in the texts of files, by the file's name and the hash of its text.
_codes: dict[tuple[str, int, int], frozenset[CodeType]] = {}
_MOST_FILES = 50
#: Flags of code that its text need not show: a notebook's cell inherits them from earlier ones.
_INHERITED = 0
for _name in __future__.all_feature_names:
    _INHERITED |= getattr(__future__, _name).compiler_flag


def source_of(fn: Any) -> str | None:
    """Return the text of a function, or None where it cannot be had.

    A file that was edited since it was imported holds another text than the one that runs, or the
    right one at another place. So the text is compiled, and is good only if the function's code
    comes out of that.
    """
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is None:
        return None
    try:
        text = inspect.getsource(fn)
        return text if code in _codes_in(code) else None
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def _codes_in(code: CodeType) -> frozenset[CodeType]:
    """Return all code objects that the present text of a code's file compiles to."""
    file, inherited = code.co_filename, code.co_flags & _INHERITED
    text = "".join(linecache.getlines(file))
    key = (file, hash(text), inherited)
    if key not in _codes:
        if len(_codes) >= _MOST_FILES:
            _codes.clear()
        # Cells of notebooks may await at their top level.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | inherited
        _codes[key] = frozenset(_within(compile(text, file, "exec", flags, dont_inherit=True)))
    return _codes[key]


def _within(code: CodeType) -> set[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return {code}.union(*map(_within, inner))
