"""Signs of life of a server that works on an answer: interim answers, sent and waited for.

A datanode that has the last byte of a chunk may need many seconds to sync it, and says nothing meanwhile; one that
is stopped says nothing either. So a server that is alive says so all the time, with what HTTP has for it: any number
of `100 Continue` before the answer (RFC 9110, 15.2.1: "has not yet been rejected", and the answer will follow). Silence
then means the same before and after the last byte. Separate from `transport`, because whoever waits needs two clocks
there, one that every sign sets back and one that nothing does.
"""

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERIM_EVERY_S = 0.5
"""Well below the silence that senders accept, and the step between two of them (`transport.SILENCE_STEP_S`)."""


class Patience(NamedTuple):
    """How long one waits for an answer."""

    silence_s: float
    """Without any byte."""
    in_all_s: float
    """Whatever signs of life there are."""


@contextmanager
def waiting_for_answer(connection: http.client.HTTPConnection, waiting: Patience) -> Iterator[None]:
    """Within the block, `connection.getresponse()` and its body raise TimeoutError after one of these times."""
    deadline_s = time.monotonic() + waiting.in_all_s
    connection.response_class = partial(_PatientResponse, waiting.silence_s, deadline_s)  # type: ignore[assignment]
    try:
        yield
    finally:
        connection.response_class = http.client.HTTPResponse


class _PatientResponse(http.client.HTTPResponse):
    """A response, which passes over interim answers by itself, that looks at two clocks before each read."""

    def __init__(self, silence_s: float, deadline_s: float, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, silence_s, deadline_s))


class _TimedReader(io.RawIOBase):
    def __init__(self, inner: io.RawIOBase, sock: socket.socket, silence_s: float, deadline_s: float) -> None:
        super().__init__()
        self._inner = inner
        self._sock = sock
        self._silence_s = silence_s
        self._deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("alive, but without an answer")
        self._sock.settimeout(min(self._silence_s, left_s))
        return self._inner.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
