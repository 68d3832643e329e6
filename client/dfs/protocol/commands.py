"""Decodes the answer to a heartbeat so that a command of a later version spoils none of the others.

Separate from the messages, which say what is sent: this is what a receiver does about what it does not know. A list in
which a single tag is unknown can't be decoded as a whole, and a datanode under a later namenode would hear nothing any
more, until it is dead to it. So each command is decoded by itself.
"""

import msgspec
from msgspec import Struct

from dfs.protocol.messages import Command, HeartbeatAnswer, UnknownCommand

_SHOWN_CHARACTERS = 64


class _AnswerInParts(HeartbeatAnswer, frozen=True, kw_only=True):
    """The same with its commands undecoded."""

    commands: list[msgspec.Raw] = []  # type: ignore[assignment]  # noqa: RUF012


class _Kind(Struct, frozen=True):
    do: str = ""


_answer_in_parts = msgspec.json.Decoder(_AnswerInParts)
_command: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_kind = msgspec.json.Decoder(_Kind)


def decode_heartbeat_answer(raw: bytes) -> HeartbeatAnswer:
    """The answer, with an UnknownCommand in the place of each command that this version does not understand.

    Raises msgspec.DecodeError: something else of it is malformed.
    """
    found = _answer_in_parts.decode(raw)
    facts = {name: getattr(found, name) for name in HeartbeatAnswer.__struct_fields__}
    return HeartbeatAnswer(**facts | {"commands": [_decode(one) for one in found.commands]})


def _decode(raw: msgspec.Raw) -> Command:
    try:
        return _command.decode(raw)
    except msgspec.ValidationError:
        return UnknownCommand(what=_what(raw))


def _what(raw: msgspec.Raw) -> str:
    try:
        return _kind.decode(raw).do[:_SHOWN_CHARACTERS]
    except msgspec.ValidationError:
        return ""
