"""A small GET /healthz of every server of a cluster, in parallel and within a fixed time.

Separate from the transport: this is plain HTTP, as any monitoring would speak it, and its question is whether it
works at all from here. Nothing is repeated, and no connection is kept.
"""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from dfs.diagnosis import Facts, Probe
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import DfsError
from dfs.protocol.messages import Empty
from dfs.protocol.operations import STATUS

TIMEOUT_S = 3.0
"""Of each step of one probe; longer is as good as never for whoever waits for bytes."""
AT_ONCE = 32
ANSWER_BYTES_MAX = 64 << 10


def probe(url: str, clock: Clock, *, timeout_s: float = TIMEOUT_S) -> Probe:
    """Ask one server. Never raises: what went wrong is the answer."""
    began = clock.monotonic_s()
    try:
        status, date = _get(url, timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Probe(url, clock.monotonic_s() - began, error=why.lower())
    took_s = clock.monotonic_s() - began
    # The answer's time is that of a moment between question and answer, cut to the second.
    skew_s = None if date is None else date + 0.5 - (clock.wall_ms() / 1000 - took_s / 2)
    return Probe(url, took_s, status, skew_s)


def _get(url: str, timeout_s: float) -> tuple[int, float | None]:
    """The status of GET /healthz, and the time that the answer names, seconds since the epoch."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", "/healthz", headers={"connection": "close"})
        response = connection.getresponse()
        response.read(ANSWER_BYTES_MAX)
        date = response.getheader("date")
        return response.status, None if date is None else parsedate_to_datetime(date).timestamp()
    finally:
        connection.close()


def probe_all(urls: Mapping[str, str], clock: Clock) -> dict[str, Probe]:
    """Ask all of them at once, by the given names."""
    if not urls:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(urls)), thread_name_prefix="dfs-probe") as pool:
        asked = {name: pool.submit(probe, url, clock) for name, url in urls.items()}
        return {name: future.result() for name, future in asked.items()}


def look(namenodes: Namenodes, clock: Clock, version: str) -> Facts:
    """All that `diagnosis` needs, as it is now."""
    told = probe_all({url: url for url in namenodes.urls}, clock)
    if not any(found.status for found in told.values()):
        return Facts(version, told, {}, None, "no namenode answers")
    try:
        status = namenodes.call(STATUS, Empty())
    except DfsError as error:
        return Facts(version, told, {}, None, error.message)
    # One that is away for a reason, or that nobody hears, need not be asked.
    expected = {
        node.id: node.url for node in status.datanodes if node.state != "dead" and node.admin_state != "decommissioned"
    }
    return Facts(version, told, probe_all(expected, clock), status)
