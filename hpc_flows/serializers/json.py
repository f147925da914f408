"""JSON: for values that people and other programs want to read.

What JSON has no word for is written as `{"__class__": "package.module.Name", "data": ...}`, as
Prefect does, and comes back as what it was: pydantic models, dataclasses, dates, UUIDs, paths,
bytes, sets, enums, exceptions (`{"__exc_type__": ..., "message": ...}`). Unlike in Prefect, tuples
stay tuples, and dicts keep keys that are no text: both are written in the same way.
"""

from __future__ import annotations

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.attributes import attributes_beside
from hpc_flows.serializers.base import Serializer
from hpc_flows.serializers.importing import imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = "hpc_flows.serializers"
_PLAIN = (str, int, float, bool, type(None))
_MARKS = ("__class__", "__exc_type__")


class JSONSerializer(Serializer):
    """JSON in UTF-8.

    Args:
        jsonlib: name of a module with `dumps` and `loads`, such as `json` or `orjson`.
        object_encoder: name of a function that turns what JSON cannot hold into what it can;
            None: such values are refused.
        object_decoder: name of a function that every dict of the text is given to; None: dicts
            stay what they are.
        dumps_kwargs, loads_kwargs: keywords for the module's functions.

    Raises:
        ValueError: an option has no meaning: `default` and `object_hook` are set by the encoder
            and decoder. It is pydantic's ValidationError, as in Prefect.
    """

    type = "json"
    suffix = ".json"
    options = ("jsonlib", "object_encoder", "object_decoder", "dumps_kwargs", "loads_kwargs")

    def __init__(
        self,
        jsonlib: str = "json",
        object_encoder: str | None = f"{_HERE}.prefect_json_object_encoder",
        object_decoder: str | None = f"{_HERE}.prefect_json_object_decoder",
        dumps_kwargs: dict[str, Any] | None = None,
        loads_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.jsonlib = jsonlib
        self.object_encoder = object_encoder
        self.object_decoder = object_decoder
        self.dumps_kwargs = dict(dumps_kwargs or {})
        self.loads_kwargs = dict(loads_kwargs or {})
        if "default" in self.dumps_kwargs:
            raise _wrong("dumps_kwargs", self.dumps_kwargs, "`default`: give an `object_encoder`")
        if "object_hook" in self.loads_kwargs:
            raise _wrong("loads_kwargs", self.loads_kwargs, "`object_hook`: give `object_decoder`")

    def dumps(self, value: Any) -> bytes:
        """Return `value` as JSON."""
        options = dict(self.dumps_kwargs)
        if self.object_encoder:
            options["default"] = imported(self.object_encoder)
        elif self.jsonlib == "json":
            _refuse(value, "the value")
        try:
            return self._text(value, options)
        except ResultError:
            raise
        except RecursionError as error:
            raise ResultError("The value cannot be written as JSON: it contains itself.") from error
        except Exception as error:
            raise ResultError(f"The value cannot be written as JSON: {error}.") from error

    def _text(self, value: Any, options: dict[str, Any]) -> bytes:
        marked = _marked(value, "the value") if self.object_encoder else value
        text: Any = imported(self.jsonlib).dumps(marked, **options)
        data: bytes = text.encode() if isinstance(text, str) else text
        return data

    def loads(self, data: bytes) -> Any:
        """Return what the JSON text says."""
        options = dict(self.loads_kwargs)
        if self.object_decoder:
            options["object_hook"] = imported(self.object_decoder)
        try:
            text = bytes(data).decode()
            return imported(self.jsonlib).loads(text, **options)
        except Exception as error:  # what classes and their validators raise, too
            raise ResultError(f"This is not JSON, or not JSON of ours: {error}.") from error


def prefect_json_object_encoder(value: Any) -> Any:
    """Return, as what JSON can hold, a value that it cannot: `default` of `json.dumps`.

    Raises:
        ResultError: there is no such form that would come back equal.
    """
    if isinstance(value, BaseException):
        return {"__exc_type__": _name(type(value)), "message": str(value)}
    if hasattr(value, "readable") and hasattr(value, "fileno"):
        kind = type(value).__name__
        text = f"<Prefect IOStream Placeholder: type={kind}, repr={value!r}"
        text += " (original content not read)>"
        return {"__class__": _name(type(value)), "data": text}
    return {"__class__": _name(type(value)), "data": _data(value)}


def prefect_json_object_decoder(found: dict[str, Any]) -> Any:
    """Return what `prefect_json_object_encoder` made a dict from; other dicts as they are.

    Raises:
        ValueError: it names an exception that is none, or a class that its data do not fit.
    """
    if "__exc_type__" in found:
        return _exception(str(found["__exc_type__"]), found.get("message", ""))
    if not {"__class__", "data"} <= found.keys():
        return found
    name = str(found["__class__"])
    if name in _OWN:
        return _OWN[name](found["data"])
    try:
        class_ = imported(name) if "." in name else None
    except (ImportError, AttributeError):
        return found
    # A function would be called by pydantic: only classes come from a file.
    return _rebuilt(class_, found["data"]) if isinstance(class_, type) else found


def _exception(name: str, message: str) -> BaseException:
    try:
        class_ = imported(name) if "." in name else None
    except (ImportError, AttributeError):
        class_ = None
    if not (isinstance(class_, type) and issubclass(class_, BaseException)):
        # Of a kind that `loads` takes for what it is: a text that is wrong.
        raise ValueError(f"Invalid exception type: {name!r}")  # noqa: TRY004
    return class_(message)


def _rebuilt(class_: type[Any], data: Any) -> Any:
    if _is_called(class_):
        return class_(*data) if isinstance(data, list) else class_(data)
    if issubclass(class_, bytes | bytearray):
        return class_(bytes.fromhex(data["hex"]) if isinstance(data, dict) else data.encode())
    return _adapter(class_).validate_python(data)


def _is_called(class_: type[Any]) -> bool:
    """Tell whether values of a class are made by calling it: numbers of numpy, and decimals."""
    bases = {(base.__module__, base.__name__) for base in class_.__mro__}
    return not bases.isdisjoint({("numpy", "generic"), ("decimal", "Decimal")})


def _adapter(class_: type[Any]) -> Any:
    # 60 ms to import: only for values that need it.
    from pydantic import TypeAdapter  # noqa: PLC0415

    if class_ not in _ADAPTERS:
        _ADAPTERS[class_] = TypeAdapter(class_)
    return _ADAPTERS[class_]


#: What pydantic makes classes' values with: building one takes longer than using it.
_ADAPTERS: dict[type[Any], Any] = {}

#: How values come back that JSON itself would have changed without a word.
_OWN: dict[str, Any] = {
    "builtins.tuple": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.dict": dict,
    "builtins.complex": lambda pair: complex(*pair),
}


def _data(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, bytes | bytearray):
        return _bytes(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        return _number(value)
    # 60 ms to import: only for values that need it.
    from pydantic_core import to_jsonable_python  # noqa: PLC0415

    if _is_more_than_its_fields(value):
        raise ResultError(_refusal("a value", value))
    try:
        if not _is_called(type(value)):
            _adapter(type(value))  # without one, what is written could not be read
        return to_jsonable_python(value)
    except Exception as error:
        raise ResultError(_refusal("a value", value)) from error


def _is_more_than_its_fields(value: Any) -> bool:
    """Tell whether a class that is no dataclass itself adds attributes to one, which get lost."""
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None or "__dataclass_fields__" in vars(type(value)):
        return False
    return bool(attributes_beside(value, fields))


def _number(value: Any) -> Any:
    """Return what numpy's class makes the number from; times as their count and unit."""
    kind = value.dtype.kind
    if not _is_called(type(value)) or kind == "V":  # arrays without dimensions, records
        raise ResultError(_refusal("a value", value))
    if kind not in "mM":
        return value.item()
    unit = value.dtype.str.partition("[")[2].rstrip("]")
    return [int(value.view("i8")), unit] if unit else str(value)


def _bytes(value: bytes | bytearray) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def _name(class_: type) -> str:
    # `Model[str]` of pydantic has no importable name; the class that it is made from does.
    origin = getattr(class_, "__pydantic_generic_metadata__", {}).get("origin")
    class_ = origin or class_
    return f"{class_.__module__}.{class_.__qualname__}"


def _marked(value: Any, where: str) -> Any:
    """Mark what JSON would change without a word; return the value itself if there is nothing."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return _marked_dict(value, where)
    if kind in (list, tuple, set, frozenset):
        return _marked_sequence(value, where)
    if isinstance(value, tuple):
        raise ResultError(_refusal(where, value))
    # A subclass would be written as its base: numpy's floats, enums that are texts.
    changed = isinstance(value, str | int | float | list | dict)
    return {"__class__": _name(kind), "data": _data(value)} if changed else value


def _marked_sequence(value: Any, where: str) -> Any:
    items = _marked_items(value, where)
    if type(value) is not list:
        return {"__class__": f"builtins.{type(value).__name__}", "data": items}
    return value if all(map(_same, items, value)) else items


def _marked_items(value: Any, where: str) -> list[Any]:
    return [_marked(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _marked_dict(value: dict[Any, Any], where: str) -> Any:
    marked = {key: _marked(item, f"{where}[{key!r}]") for key, item in value.items()}
    if not all(type(key) is str for key in value) or any(mark in value for mark in _MARKS):
        pairs = [[_marked(key, f"a key of {where}"), item] for key, item in marked.items()]
        return {"__class__": "builtins.dict", "data": pairs}
    return value if all(marked[key] is value[key] for key in value) else marked


def _same(first: object, second: object) -> bool:
    return first is second


def _refuse(value: object, where: str) -> None:
    """Refuse what would not come back equal: there is no encoder to mark it."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ResultError(_refusal(f"the key {key!r} of {where}", key))
            _refuse(item, f"{where}[{key!r}]")
    elif type(value) is list:
        for index, item in enumerate(value):
            _refuse(item, f"{where}[{index}]")
    elif type(value) not in _PLAIN:
        raise ResultError(_refusal(where, value))


def _refusal(where: str, value: object) -> str:
    return (
        f"JSON has no word for {where}, of type {type(value).__qualname__!r}, that would come "
        f"back equal. Use lists, dicts, numbers and texts, HDF5Serializer for arrays and tables, "
        f"or PickleSerializer."
    )


def _wrong(option: str, value: object, reason: str) -> ValueError:
    # Prefect's serializers are pydantic models, so this is what ported code catches.
    from pydantic_core import PydanticCustomError, ValidationError  # noqa: PLC0415 - an error's way

    problem = PydanticCustomError("value_error", "it cannot contain {reason}", {"reason": reason})
    return ValidationError.from_exception_data(
        "JSONSerializer", [{"type": problem, "loc": (option,), "input": value}]
    )
