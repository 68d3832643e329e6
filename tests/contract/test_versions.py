"""Servers and clients of neighbouring versions understand each other: what a message has more is ignored."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from dfs.protocol.messages import (
    DeleteReplicas,
    Empty,
    Heartbeat,
    HeartbeatAnswer,
    SendReport,
    UnknownCommand,
    VolumeState,
)
from dfs.protocol.operations import HEARTBEAT, OPERATIONS, Operation


def structs_in(found: Any, seen: set[type]) -> Iterator[msgspec.inspect.StructType]:
    """All kinds of messages inside a type."""
    if isinstance(found, msgspec.inspect.StructType):
        if found.cls in seen:
            return
        seen.add(found.cls)
        yield found
        for field in found.fields:
            yield from structs_in(field.type, seen)
    for name in ("types", "item_types"):
        for inner in getattr(found, name, ()):
            yield from structs_in(inner, seen)
    for name in ("item_type", "key_type", "value_type"):
        if hasattr(found, name):
            yield from structs_in(getattr(found, name), seen)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_message_with_more_fields_than_this_version_knows_is_understood(
    operation: Operation[Any, Any],
) -> None:  # F88
    for kind in (operation.request, operation.response):
        for struct in structs_in(msgspec.inspect.type_info(kind), set()):
            assert not struct.forbid_unknown_fields, f"{struct.cls.__name__} refuses what a later version adds"


def test_a_heartbeat_of_a_later_version_is_a_heartbeat() -> None:  # F88
    volume = VolumeState(id="a" * 32, state="in_service", capacity_bytes=1, free_bytes=1, used_bytes=0)
    beat = Heartbeat(datanode="dn1", incarnation=3, boot="b" * 32, lineage="c" * 32, seq_seen=1, volumes=[volume])
    raw = msgspec.json.decode(msgspec.json.encode(beat))
    raw["of_a_later_version"] = {"x": [1]}
    raw["volumes"][0]["temperature"] = 40
    assert msgspec.json.decode(msgspec.json.encode(raw), type=Heartbeat) == beat
    assert msgspec.json.decode(b'{"x": 1}', type=Empty) == Empty()


def test_a_command_of_a_later_version_spoils_neither_the_answer_nor_the_other_commands() -> None:  # F88
    known = [SendReport(), DeleteReplicas(chunks=["1" * 32])]
    answer = HeartbeatAnswer(
        time_ms=1, seq=2, lineage="c" * 32, epoch=3, commands=[*known], members_version=4, members=[]
    )
    raw = msgspec.json.decode(msgspec.json.encode(answer))
    raw["commands"].insert(1, {"do": "teleport", "where": [1, {"x": "y"}]})
    raw["commands"].append({"do": "check", "chunk": "1" * 32, "how": "otherwise"})
    raw["commands"].append({"do": 7})
    raw["commands"].append(["not", "even", "an", "object"])
    body = msgspec.json.encode(raw)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=HeartbeatAnswer)
    assert HEARTBEAT.decode is not None
    unknown = [UnknownCommand(what=what) for what in ("teleport", "check", "", "")]
    expected = [known[0], unknown[0], known[1], *unknown[1:]]
    assert HEARTBEAT.decode(body) == msgspec.structs.replace(answer, commands=expected)


def test_an_answer_that_is_malformed_otherwise_is_still_refused() -> None:
    assert HEARTBEAT.decode is not None
    with pytest.raises(msgspec.DecodeError):
        HEARTBEAT.decode(b'{"commands": [], "seq": "high"}')
