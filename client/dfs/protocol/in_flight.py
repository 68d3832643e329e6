"""A request that somebody else may give up: how the thread that waits for its answer is told.

Separate from `transport` because it is about two threads and one socket, and about no request.
"""

import socket
import threading
from contextlib import suppress

from dfs.protocol.errors import OutcomeUnknown


class InFlight:
    """A request of one thread that another thread may give up: the first one then meets OutcomeUnknown at once."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._sock: socket.socket | None = None
        self.given_up = False

    def begin(self, sock: socket.socket) -> None:
        """The request goes out here. Raises OutcomeUnknown: it was given up before."""
        with self._gate:
            if self.given_up:
                raise OutcomeUnknown("the request was given up", given_up=True)
            self._sock = sock

    def end(self) -> bool:
        """The answer is complete, and the connection is used for other things from now on. False: given up."""
        with self._gate:
            self._sock = None
            return not self.given_up

    def give_up(self) -> None:
        """Nobody wants the answer any more. Only this request's connection is cut."""
        with self._gate:
            self.given_up = True
            if self._sock is not None:
                # The plain socket's: that of TLS would talk to the peer, and belongs to the other thread.
                with suppress(OSError):
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
