"""Capabilities and receipts: who may touch a chunk, and proof that it was stored.

A *capability* is signed by the namenode, once for each datanode that it names, with that datanode's own key; so a
datanode checks it alone, and one that is compromised forges for nobody else. A *receipt* is signed by the datanode
that made a replica durable; the namenode checks it when the chunk is committed. Keys are derived from the cluster's
secret and the datanode's id (HKDF, RFC 5869), so that the store holds none of them.

Both are URL-safe text: base64 of the MessagePack payload, a dot, and one MAC for each datanode, in chain order.
MACs are HMAC-SHA-256, cut to 16 bytes (RFC 2104 section 5 allows half the output).

A capability to read is for one run of bytes (version 1) or for several of one chunk (version 2): the files that a
reader wants lie all over a pack, and it may have them in one request, but never what is between them.
"""

import base64
import binascii
import hmac
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from dfs.protocol.errors import NotPermitted, ReceiptRefused

KEY_BYTES = 32
VERIFIED_MAX = 1024
"""Capabilities that were found right and are not computed again: a reader shows one for each of its ranges."""
MAC_BYTES = 16
REPAIR_PRINCIPAL = "repair"
"""In whose name the namenode has datanodes pull chunks: such reads give way to others'."""
RUNS_MAX = 128
"""Runs of one capability: as many as fit into a token, whatever their numbers and the chain's names."""
_CAPABILITY_VERSION = 1
_RUNS_VERSION = 2
"""A server that does not know of runs would take the first and the last byte for all that is to be checked."""
_RECEIPT_VERSION = 1
_TICKET_VERSION = 1
_SEPARATE_CAPABILITY = b"dfs capability\x00"
_SEPARATE_RECEIPT = b"dfs receipt\x00"
_SEPARATE_TICKET = b"dfs ticket\x00"
"""One key signs all kinds; these keep a MAC of one kind from ever being valid as another."""


class Capability(msgspec.Struct, frozen=True, array_like=True):
    """What a token allows. `start` and `end` bound a read; `end` alone bounds the length of a write."""

    version: int
    operation: Literal["r", "w"]
    chunk: bytes
    start: int
    end: int
    expires_ms: int
    principal: str
    chain: tuple[str, ...]
    """Datanode ids: of a write in pipeline order, of a read all that may serve it."""
    runs: tuple[int, ...] = ()
    """Version 2: start and end of each run, ascending and without touching each other; only they may be read."""

    def allows(self, start: int, end: int) -> bool:
        """Whether the bytes [start, end) may be read."""
        if not self.runs:
            return self.start <= start and end <= self.end
        # An odd place is behind the start of a run and not behind its end.
        place = bisect_right(self.runs, start)
        return place % 2 == 1 and end <= self.runs[place]


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """A datanode's word that a replica is durable."""

    version: int
    chunk: bytes
    length: int
    digest: bytes
    datanode: str
    incarnation: int
    volume: bytes
    principal: str


def derive_key(cluster_secret: bytes, datanode_id: str) -> bytes:
    """The 32-byte key of a datanode: HKDF-SHA-256, RFC 5869, with the id as context."""
    extracted = hmac.digest(b"dfs datanode key", cluster_secret, "sha256")
    return hmac.digest(extracted, datanode_id.encode() + b"\x01", "sha256")


def register_proof(key: bytes, datanode_id: str, boot: str) -> str:
    """What a datanode that is known shows at registration: hex MAC over its id and this life's number."""
    return hmac.digest(key, b"dfs register\x00" + datanode_id.encode() + b"\x00" + boot.encode(), "sha256").hex()


def metadata_proof(join_secret: str, challenge: str) -> str:
    """What whoever restores a store shows to a datanode that has nobody to ask: hex MAC over the datanode's challenge.

    The secret itself does not travel, and what is overheard is good for this one life of this one datanode.
    """
    return hmac.digest(join_secret.encode(), b"dfs metadata\x00" + challenge.encode(), "sha256").hex()


def same(left: str, right: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=").decode()


def _raw(text: str) -> bytes:
    # Two spellings of one token would be two tokens: characters outside the alphabet are refused, not skipped.
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _mac(key: bytes, separate: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, separate + payload, "sha256")[:MAC_BYTES]


def sign_capability(
    keys: dict[str, bytes],
    *,
    operation: Literal["r", "w"],
    chunk: str,
    start: int,
    end: int,
    expires_ms: int,
    principal: str,
    runs: Sequence[int] = (),
) -> str:
    """Make a token for the datanodes in `keys` (id -> key), whose order is the chain.

    runs   of a read: as `Capability` has them, at most RUNS_MAX of them, from `start` to `end`; none: all between these
    """
    assert len(runs) <= 2 * RUNS_MAX, "as many runs as fit into a token"
    version = _RUNS_VERSION if runs else _CAPABILITY_VERSION
    capability = Capability(
        version, operation, bytes.fromhex(chunk), start, end, expires_ms, principal, tuple(keys), tuple(runs)
    )
    payload = msgspec.msgpack.encode(capability)
    macs = b"".join([_mac(key, _SEPARATE_CAPABILITY, payload) for key in keys.values()])
    return f"{_text(payload)}.{_text(macs)}"


_capability_decoder = msgspec.msgpack.Decoder(Capability)
_receipt_decoder = msgspec.msgpack.Decoder(Receipt)


def check_capability(
    token: str, key: bytes, *, datanode: str, operation: Literal["r", "w"], chunk: str, now_ms: int
) -> Capability:
    """The capability in `token`, if this datanode may act on it now.

    now_ms   the namenode's time as the datanode follows it, never its own wall clock
    Raises   NotPermitted: forged, expired, for another chunk, operation or datanode
    """
    capability = _verified(token, key, datanode)
    if capability.operation != operation or capability.chunk.hex() != chunk:
        raise NotPermitted("the capability is for another chunk or operation")
    if now_ms >= capability.expires_ms:
        raise NotPermitted("the capability has expired; ask the namenode for a new one", expired=True)
    return capability


@lru_cache(VERIFIED_MAX)
def _verified(token: str, key: bytes, datanode: str) -> Capability:
    """The capability in `token`, if it is signed with the key, whatever it allows. Raises NotPermitted."""
    try:
        payload_text, _, macs_text = token.partition(".")
        payload, macs = _raw(payload_text), _raw(macs_text)
        capability = _capability_decoder.decode(payload)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise NotPermitted("the capability is malformed; ask the namenode for a new one") from None
    if datanode not in capability.chain or len(macs) != MAC_BYTES * len(capability.chain):
        raise NotPermitted("the capability is for other datanodes; ask the namenode for a new one")
    place = capability.chain.index(datanode) * MAC_BYTES
    if not hmac.compare_digest(macs[place : place + MAC_BYTES], _mac(key, _SEPARATE_CAPABILITY, payload)):
        raise NotPermitted("the capability is not signed by this cluster's namenode")
    if capability.version != (_RUNS_VERSION if capability.runs else _CAPABILITY_VERSION):
        raise NotPermitted(
            f"the capability has version {capability.version}; this datanode knows up to {_RUNS_VERSION}"
        )
    return capability


def sign_receipt(
    key: bytes,
    *,
    chunk: str,
    length: int,
    digest: bytes,
    datanode: str,
    incarnation: int,
    volume: str,
    principal: str,
) -> str:
    """Make the receipt for a replica that is durable."""
    receipt = Receipt(
        _RECEIPT_VERSION, bytes.fromhex(chunk), length, digest, datanode, incarnation, bytes.fromhex(volume), principal
    )
    payload = msgspec.msgpack.encode(receipt)
    return f"{_text(payload)}.{_text(_mac(key, _SEPARATE_RECEIPT, payload))}"


def read_receipt(token: str, cluster_secret: bytes) -> Receipt:
    """The receipt in `token`, if a datanode of this cluster signed it. Raises ReceiptRefused.

    Whether it counts (principal, incarnation, volume in service, chunk never used) is the commit's to decide.
    """
    try:
        payload_text, _, mac_text = token.partition(".")
        payload, mac = _raw(payload_text), _raw(mac_text)
        receipt = _receipt_decoder.decode(payload)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise ReceiptRefused("a receipt is malformed; send the chunk again") from None
    key = derive_key(cluster_secret, receipt.datanode)
    if not hmac.compare_digest(mac, _mac(key, _SEPARATE_RECEIPT, payload)):
        raise ReceiptRefused("a receipt is not signed by a datanode of this cluster", chunk=receipt.chunk.hex())
    if receipt.version != _RECEIPT_VERSION:
        raise ReceiptRefused(f"a receipt has version {receipt.version}; this namenode knows {_RECEIPT_VERSION}")
    return receipt


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """The namenode's word, in the Location of a redirect, that a client is about to upload a file through a gateway."""

    version: int
    path: str
    length: int | None
    """Bytes of the body that the client announced; None: it did not know."""
    expires_ms: int
    principal: str


_ticket_decoder = msgspec.msgpack.Decoder(Ticket)


def sign_ticket(key: bytes, *, path: str, length: int | None, expires_ms: int, principal: str) -> str:
    """Make a ticket for the datanode that has this key."""
    payload = msgspec.msgpack.encode(Ticket(_TICKET_VERSION, path, length, expires_ms, principal))
    return f"{_text(payload)}.{_text(_mac(key, _SEPARATE_TICKET, payload))}"


def check_ticket(token: str, key: bytes, *, path: str, now_ms: int) -> Ticket:
    """The ticket in `token`, if it is for this datanode and path and still good. Raises NotPermitted."""
    try:
        payload_text, _, mac_text = token.partition(".")
        payload, mac = _raw(payload_text), _raw(mac_text)
        ticket = _ticket_decoder.decode(payload)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise NotPermitted("the upload ticket is malformed; ask the namenode again") from None
    if not hmac.compare_digest(mac, _mac(key, _SEPARATE_TICKET, payload)):
        raise NotPermitted("the upload ticket is not for this datanode; ask the namenode again")
    if ticket.version != _TICKET_VERSION or ticket.path != path:
        raise NotPermitted("the upload ticket is for another path or version; ask the namenode again")
    if now_ms >= ticket.expires_ms:
        raise NotPermitted("the upload ticket has expired; ask the namenode again", expired=True)
    return ticket
