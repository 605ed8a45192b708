"""A value of any type that may cross the wire, read off a tape: what the type allows, and mostly small.

What types there are is read off the structs themselves, so new frames and fields come by themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec.inspect as mi

from tests.fuzz.tape import Tape

Hint = Callable[[Tape], object]
Maker = Callable[[Tape, Mapping[str, Hint]], Any]

_ITEMS_MAX = 6
_NUMBER_MAX = 2**63 - 1
_CHARACTERS = ("a", "é", "\n", "\x00", "\U0001f642", "%", '"')


def forged(kind: type[Any], tape: Tape, hints: Mapping[str, Hint]) -> list[Any]:
    """The tag and the fields of a frame of this kind.

    A hint knows what is plausible; it goes by ``field``, or by ``Kind.field``, which counts first.
    """
    maker = _makers.get(kind)
    if maker is None:
        maker = _makers[kind] = _maker_of_struct(kind)
    fields: list[Any] = maker(tape, hints)
    return fields


_makers: dict[type[Any], Maker] = {}


def _maker_of_struct(kind: type[Any]) -> Maker:
    info = mi.type_info(kind)
    assert isinstance(info, mi.StructType), f"{kind} is no struct"
    begin: list[Any] = [] if info.tag is None else [info.tag]
    makers = [(f"{kind.__name__}.{field.name}", field.name, _maker_of_field(field)) for field in info.fields]

    def make(tape: Tape, hints: Mapping[str, Hint]) -> list[Any]:
        fields = list(begin)
        for full_name, name, maker in makers:
            hint = hints.get(full_name) or hints.get(name)
            fields.append(hint(tape) if hint else maker(tape, hints))
        return fields

    return make


def _maker_of_field(field: mi.Field) -> Maker:
    """What may be left out mostly is as if it was."""
    maker = _maker_of(field.type)
    default = field.default
    if not isinstance(default, bool | int | float | str | bytes | None):
        return maker
    return lambda tape, hints: maker(tape, hints) if tape.chance(96) else default


def _maker_of(info: mi.Type) -> Maker:
    match info:
        case mi.StructType(cls=cls):
            return _maker_of_struct(cls)
        case mi.VarTupleType(item_type=item):
            each = _maker_of(item)
            return lambda tape, hints: [each(tape, hints) for _ in range(tape.number(0, _ITEMS_MAX))]
        case mi.TupleType(item_types=items):
            makers = [_maker_of(item) for item in items]
            return lambda tape, hints: [maker(tape, hints) for maker in makers]
        case mi.UnionType(types=types):
            nothing_first = sorted(types, key=lambda each: not isinstance(each, mi.NoneType))
            choices = [_maker_of(each) for each in nothing_first]
            return lambda tape, hints: tape.pick(choices)(tape, hints)
        case _:
            return _maker_of_plain(info)


def _maker_of_plain(info: mi.Type) -> Maker:
    match info:
        case mi.IntType(ge=ge, le=le, lt=lt):
            low, high = _bounds(ge, le, lt)
            return lambda tape, _: tape.number(low, high)
        case mi.FloatType(ge=ge, le=le, lt=lt):
            lowest, highest = float(ge or 0.0), float(_bounds(None, le, lt)[1])
            return lambda tape, _: lowest + (highest - lowest) * tape.byte() / 255
        case mi.LiteralType(values=values):
            return lambda tape, _: tape.pick(values)
        case _:
            return _UNBOUND[type(info)]


_UNBOUND: Mapping[type[mi.Type], Maker] = {
    mi.StrType: lambda tape, _: "".join(tape.pick(_CHARACTERS) for _ in range(tape.number(0, 9))),
    mi.BytesType: lambda tape, _: tape.take(tape.number(0, 40)),
    mi.BoolType: lambda tape, _: tape.chance(128),
    mi.NoneType: lambda _tape, _hints: None,
}


def _bounds(ge: float | None, le: float | None, lt: float | None) -> tuple[int, int]:
    high = _NUMBER_MAX if lt is None else int(lt) - 1
    return int(ge or 0), high if le is None else int(le)
