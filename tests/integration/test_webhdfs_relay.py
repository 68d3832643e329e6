"""The namenode passing requests on to datanodes, which are plain servers here: stopped, refusing, or well."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from dfs.protocol import errors as e
from dfs_namenode.webhdfs import relay

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell"


class Peer:
    """Takes connections, reads, and answers or not."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.read(1 << 16))
        writer.write(self._answer)
        await reader.read()
        writer.close()


async def passed_on(
    peers: list[Peer], *, may_repeat: bool, method: str = "GET", headers: Mapping[str, str] | None = None
) -> bytes:
    """What the client gets."""
    servers = [await peer.serve() for peer in peers]
    came: list[dict[str, Any]] = []

    async def receive() -> Any:
        await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        came.append(message)

    try:
        await relay.Relay()(
            [peer.url for peer in peers],
            "/webhdfs/v1/f?op=OPEN",
            headers or {},
            {"type": "http", "method": method},
            receive,
            send,
            may_repeat=may_repeat,
        )
    finally:
        for server in servers:
            server.close()
    assert came[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in came)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "READ_ANSWER_S", 0.2)
    monkeypatch.setattr(relay, "ANSWER_S", 1.0)


def test_a_read_goes_to_the_next_datanode_if_one_does_not_answer() -> None:
    stopped, well = Peer(b""), Peer(ANSWER)
    assert asyncio.run(passed_on([stopped, well], may_repeat=True)) == b"well"
    assert (len(stopped.requests), len(well.requests)) == (1, 1)


def test_what_has_an_effect_or_a_body_is_sent_once() -> None:
    for method, headers, may_repeat in (("POST", {}, False), ("GET", {"content-length": "3"}, True)):
        stopped, well = Peer(b""), Peer(ANSWER)
        with pytest.raises(e.Unavailable, match="broke off"):
            asyncio.run(passed_on([stopped, well], may_repeat=may_repeat, method=method, headers=headers))
        assert well.requests == []


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    half, well = Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Peer(ANSWER)
    cut: list[object] = []

    async def cut_off(scope: object) -> None:
        cut.append(scope)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "cut_off", cut_off)
        patch.setattr(relay, "IDLE_BODY_S", 0.3)
        assert asyncio.run(passed_on([half, well], may_repeat=True)) == b"half"
    assert len(cut) == 1
    assert well.requests == []
