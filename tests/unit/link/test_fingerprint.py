"""The name of a set of frames: any change of theirs is another name, and nothing that they are made of is left out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.link import frames
from supervisor.link.identities import fingerprint


def struct(*fields: tuple[str, str], name: str = "S") -> type:
    made = msgspec.defstruct(name, [field for field, _type in fields])
    made.__annotations__ = dict(fields)
    return made


BASE = struct(("slot", "int"), ("pid", "int"))


@pytest.mark.parametrize(
    "other",
    [
        struct(("pid", "int"), ("slot", "int")),
        struct(("slot", "int"), ("pid", "int"), ("more", "int")),
        struct(("slot", "int")),
        struct(("slot", "int"), ("pid", "str")),
        struct(("slot", "int"), ("number", "int")),
        struct(("slot", "int"), ("pid", "int"), name="T"),
    ],
    ids=["moved", "added", "removed", "retyped", "renamed", "struct renamed"],
)
def test_any_change_of_a_field_is_another_fingerprint(other: type) -> None:
    assert fingerprint([BASE]) != fingerprint([other])


def test_the_order_in_which_frames_are_defined_means_nothing() -> None:
    other = struct(("x", "str"), name="T")
    assert fingerprint([BASE, other]) == fingerprint([other, BASE])


def test_every_struct_that_a_frame_is_made_of_is_named() -> None:
    found: set[type] = set()

    def walk(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                return
            found.add(info.cls)
        for value in (getattr(info, name) for name in getattr(info, "__struct_fields__", ())):
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
                    walk(part)

    for info in msgspec.inspect.multi_type_info(frames.Frame.__subclasses__()):
        walk(info)
    assert found == {*frames.Frame.__subclasses__(), *frames.PARTS}
