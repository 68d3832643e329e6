"""Who this cluster is: its id and lineage, which the store keeps, and its secret, which the store must not keep.

Separate because the secret is the one thing whose loss or leak can't be repaired: it lies in a file of its own, mode
0600, so that a copy of the database gives nobody the right to read or write chunks. All keys are derived from it.

A directory gets both halves or none. The secret is written as `secret.new` first, then the cluster's id into the
store, then the file gets its name; whichever step a kill interrupts, the next start finishes or repeats it. A store
without its secret, or a secret without its store, is refused: the one could check no receipt, and the other is how a
namenode looks that was started on an empty directory by mistake (F64).
"""

import os
import secrets

import msgspec

from dfs.protocol.capability import KEY_BYTES, derive_key
from dfs.protocol.errors import Conflict

_FILE = "secret"
NEW_FILE = "secret.new"
"""A secret whose store may not be there yet."""
_KEYS_CACHED_MAX = 10_000


class _SecretFile(msgspec.Struct, frozen=True):
    """What the file holds, as JSON."""

    cluster: str
    secret: str
    """Hex, 32 bytes."""


class NodeKeys:
    """The keys of all datanodes, derived from the cluster's secret when asked for."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._derived: dict[str, bytes] = {}

    def of(self, datanode: str) -> bytes:
        """The key of one datanode, known or not."""
        key = self._derived.get(datanode)
        if key is None:
            if len(self._derived) >= _KEYS_CACHED_MAX:
                self._derived.clear()
            key = self._derived[datanode] = derive_key(self.secret, datanode)
        return key

    def chain(self, datanodes: list[str]) -> dict[str, bytes]:
        """Keys by id, in this order: what `sign_capability` takes."""
        return {datanode: self.of(datanode) for datanode in datanodes}


def prepare_secret(directory: str, cluster: str) -> None:
    """Write the secret of a new cluster, durably, under its temporary name. Before the id goes into the store."""
    content = msgspec.json.encode(_SecretFile(cluster, secrets.token_bytes(KEY_BYTES).hex()))
    path = os.path.join(directory, NEW_FILE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_secret(directory: str, cluster: str) -> bytes:
    """The secret of the cluster that the store names; gives the file its name if a kill kept it from that.

    Raises Conflict: the file is missing, damaged, or another cluster's.
    """
    path, new_path = os.path.join(directory, _FILE), os.path.join(directory, NEW_FILE)
    if not os.path.exists(path) and os.path.exists(new_path):
        _read(new_path, cluster)
        os.rename(new_path, path)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return _read(path, cluster)


def refuse_orphan_secret(directory: str) -> None:
    """Raise Conflict if there is a secret although the store is empty: its store is elsewhere."""
    path = os.path.join(directory, _FILE)
    if os.path.exists(path):
        raise Conflict(
            f"{directory} has the secret of a cluster but an empty store; restore the store from its backup, "
            f"or remove {path} to begin a new cluster, which can't read the old one's datanodes"
        )


def _read(path: str, cluster: str) -> bytes:
    try:
        with open(path, "rb") as file:
            kept = msgspec.json.decode(file.read(), type=_SecretFile)
        secret = bytes.fromhex(kept.secret)
    except FileNotFoundError:
        raise Conflict(f"{path} is missing; without it no datanode can be trusted: restore it") from None
    except (ValueError, msgspec.DecodeError):
        raise Conflict(f"{path} is damaged; restore it from a backup") from None
    if kept.cluster != cluster or len(secret) != KEY_BYTES:
        raise Conflict(f"{path} belongs to the cluster {kept.cluster}, the store beside it to {cluster}")
    return secret
