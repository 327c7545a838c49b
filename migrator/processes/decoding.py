"""What a child says, read as a record: every field is there and of the very type that it names, or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Decoder = Callable[[Any], Any]
_INTEGER = 2**63  # what does not fit is no number of rows, no process id and no OID


class NotUnderstood(ValueError):
    """What was said is not of the type. The message names the place and never repeats a value."""


def decode(kind: type[_T], said: object) -> _T:
    """What was said, as that type: a dataclass whose fields are dataclasses, collections and plain values.

    A field that is unknown or missing is not understood; neither is true for 1, nor null for a text, nor a text that
    no encoding can hold, nor what the dataclass itself refuses with a ValueError. Raises: NotUnderstood.
    """
    return cast("_T", _decoder(cast("Any", kind))(said))


@cache
def _decoder(kind: Any) -> _Decoder:
    origin, args = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is not None:
        return _composed(origin, args)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda said: _member(kind, said)
    if is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"nothing that a child says is read as {kind}")


def _composed(origin: Any, args: tuple[Any, ...]) -> _Decoder:
    if origin is Literal:
        return lambda said: _chosen(said, args)
    if origin in (Union, UnionType):
        return _either(args)
    if origin is Mapping:
        return _mapping(_decoder(args[1]))
    if origin is tuple and args[1:] != (...,):
        return _row([_decoder(arg) for arg in args])
    return _many(_MANY[origin], _decoder(args[0]))


_MANY: dict[Any, Callable[..., Any]] = {tuple: tuple, list: list, frozenset: frozenset}


def _text(said: Any) -> str:
    if type(said) is not str:
        raise _not("a text", said)
    if not said.isascii():
        try:
            said.encode()
        except UnicodeEncodeError:
            raise NotUnderstood("a text holds half a character") from None
    return said


def _integer(said: Any) -> int:
    if type(said) is not int or not -_INTEGER <= said < _INTEGER:
        raise _not("an integer", said)
    return said


def _number(said: Any) -> float:
    if type(said) is float and isfinite(said):
        return said
    return float(_integer(said))


def _flag(said: Any) -> bool:
    if type(said) is not bool:
        raise _not("true or false", said)
    return said


def _nothing(said: Any) -> None:
    if said is not None:
        raise _not("null", said)


def _anything(said: Any) -> Any:
    return said


_PLAIN: dict[Any, _Decoder] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _flag,
    NoneType: _nothing,
    Any: _anything,
    object: _anything,
}


def _chosen(said: Any, words: tuple[Any, ...]) -> Any:
    if type(said) is not str or said not in words:
        raise NotUnderstood("it is none of the words that are known here")
    return said


def _member(kind: type[Enum], said: Any) -> Enum:
    return kind(_chosen(said, tuple(one.value for one in kind)))


def _either(kinds: tuple[Any, ...]) -> _Decoder:
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) != 1 or len(kinds) != 2:
        raise TypeError("one type, or null: which of several was meant cannot be told")
    inner = _decoder(others[0])
    return lambda said: None if said is None else inner(said)


def _row(decoders: list[_Decoder]) -> _Decoder:
    def read(said: Any) -> tuple[Any, ...]:
        if type(said) is not list or len(said) != len(decoders):
            raise _not(f"a list of {len(decoders)}", said)
        return tuple(decoder(value) for decoder, value in zip(decoders, said, strict=True))

    return read


def _many(collection: Callable[..., Any], inner: _Decoder) -> _Decoder:
    def read(said: Any) -> Any:
        if type(said) is not list:
            raise _not("a list", said)
        return collection(map(inner, said))

    return read


def _mapping(inner: _Decoder) -> _Decoder:
    def read(said: Any) -> dict[str, Any]:
        if type(said) is not dict:
            raise _not("an object", said)
        return {_text(name): inner(value) for name, value in said.items()}

    return read


def _record(kind: Any) -> _Decoder:
    hints = get_type_hints(kind)
    decoders = {one.name: _decoder(hints[one.name]) for one in fields(kind)}
    needed = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}

    def read(said: Any) -> Any:
        if type(said) is not dict:
            raise _not("an object", said)
        if missing := needed - said.keys():
            raise NotUnderstood(f"{min(missing)} is missing")
        if said.keys() - decoders.keys():
            raise NotUnderstood("it has a field that is not known here")
        found: dict[str, Any] = {}
        for name, value in said.items():
            try:
                found[name] = decoders[name](value)
            except NotUnderstood as error:
                raise NotUnderstood(f"{name}: {error}") from None
        try:
            return kind(**found)
        except ValueError as error:
            raise NotUnderstood(str(error)) from error

    return read


def _not(wanted: str, said: Any) -> NotUnderstood:
    return NotUnderstood(f"it is not {wanted} but of type {type(said).__name__}")
