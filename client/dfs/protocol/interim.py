"""Signs of life of a server that works on an answer: interim answers, and how long one waits for them.

A datanode that has the last byte of a chunk may need many seconds to sync it, and says nothing meanwhile; one that
is stopped says nothing either. So a server that is alive says so all the time, with what HTTP has for it: any number
of `100 Continue` before the answer (RFC 9110, 15.2.1: "has not yet been rejected", and the answer will follow). Silence
then means the same before and after the last byte. Whoever waits has two clocks, one that every sign sets back and one
that nothing does. Separate because both ends need it: `guard` sends the signs, `exchange` passes over them.
"""

from typing import NamedTuple

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERIM_EVERY_S = 0.5
"""Well below the silence that senders accept, and the step between two of them (`transport.SILENCE_STEP_S`)."""


class Patience(NamedTuple):
    """How long one waits for an answer."""

    silence_s: float
    """Without any byte."""
    in_all_s: float
    """Whatever signs of life there are."""
