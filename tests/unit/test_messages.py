"""The bounds of messages: what a handler or the store could not take never gets past decoding."""

from typing import Any

import msgspec
import pytest

from dfs.protocol import messages as m

ID = "0" * 32


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (m.PutFile, {"do": "put", "path": "/f"}, {"staged": 1 << 31}),
        (m.ChunkReport, {"after": "", "up_to": ""}, {"after": "zz"}),
        (m.ChunkReport, {"after": "", "up_to": ""}, {"up_to": "0" * 31}),
        (m.ChunkReport, {"after": ID, "up_to": ID}, {"replicas": [[ID, 1 << 63, ID, ID]]}),
        (m.ChunkReport, {"after": ID, "up_to": ID}, {"replicas": [[ID, -1, ID, ID]]}),
    ],
)
def test_numbers_and_ids_that_the_store_cant_take_are_refused(
    message: type[Any], field: dict[str, Any], value: dict[str, Any]
) -> None:
    fields = dict(field)
    if message is m.ChunkReport:
        fields |= {"datanode": "dn1", "incarnation": 1, "boot": "b" * 32, "as_of": 0, "volumes": [], "replicas": []}
    msgspec.json.decode(msgspec.json.encode(fields), type=message)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(fields | value), type=message)
