"""Rows of datanodes: who ever registered, at which addresses, in which life. All SQL about them is here.

Whether one is alive is not here: that is liveness, and lives in memory.
"""

from collections.abc import Sequence

import msgspec

from dfs.protocol.errors import StaleIncarnation
from dfs.protocol.ids import ID_BYTES
from dfs.protocol.messages import AdminState, VolumeState
from dfs_namenode.liveness import Datanode
from dfs_namenode.store.transaction import Row, Snapshot, Transaction

IN_SERVICE = "in_service"
DEPARTED = "departed"
"""An operator said that it will not come back. The row stays, so that its numbers are never given out again."""
_NO_BOOT = bytes(ID_BYTES)
"""In place of the number of a life that has ended; no process draws it."""
_COLUMNS = "num, id, peer_url, client_url, rack, version, boot, incarnation, volumes, admin_state, admin_until_ms"
_volumes = msgspec.json.Decoder(list[VolumeState])


def everyone(snapshot: Snapshot) -> list[Datanode]:
    """All that ever registered, without those that departed."""
    rows = snapshot.rows(f"SELECT {_COLUMNS} FROM datanode WHERE state = ? ORDER BY id", (IN_SERVICE,))  # noqa: S608
    return [_datanode(row) for row in rows]


def find(snapshot: Snapshot, datanode: str) -> Datanode | None:
    """One by its id; None also if it departed: whoever comes under that id then is a new one."""
    row = snapshot.row(
        f"SELECT {_COLUMNS} FROM datanode WHERE id = ? AND state = ?",  # noqa: S608
        (datanode, IN_SERVICE),
    )
    return None if row is None else _datanode(row)


def begin_life(tx: Transaction, node: Datanode) -> Datanode:
    """Store a new life: the first one, or the next of a datanode that is known. Returns it with `num`, incarnation."""
    tx.run(
        "INSERT INTO datanode (id, peer_url, client_url, rack, version, boot, incarnation, state, registered_ms,"
        " volumes) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET peer_url = excluded.peer_url, client_url = excluded.client_url,"
        " rack = excluded.rack, version = excluded.version, boot = excluded.boot,"
        " incarnation = datanode.incarnation + 1,"
        # Whoever comes back under the id of one that departed is new; else an operator's decision outlives a restart.
        " admin_state = CASE datanode.state WHEN excluded.state THEN datanode.admin_state ELSE 'in_service' END,"
        " state = excluded.state,"
        " registered_ms = excluded.registered_ms, volumes = excluded.volumes",
        (
            node.id, node.peer_url, node.client_url, node.rack, node.version, bytes.fromhex(node.boot), IN_SERVICE,
            tx.now_ms, _encode(node.volumes),
        ),
    )  # fmt: skip
    stored = find(tx, node.id)
    assert stored is not None
    return stored


def require_life(snapshot: Snapshot, datanode: str, incarnation: int, boot: str) -> None:
    """Raise StaleIncarnation unless this is the life that the datanode lives now. For the transaction that applies its
    word: between a check outside and that, it may have begun another one (I7)."""
    row = snapshot.row("SELECT incarnation, boot FROM datanode WHERE id = ? AND state = ?", (datanode, IN_SERVICE))
    if row is None or (row[0], row[1].hex()) != (incarnation, boot):
        raise StaleIncarnation(f"{datanode} has begun another life meanwhile, or was forgotten; it must register again")


def depart(tx: Transaction, datanode: str) -> None:
    """It is no part of the cluster any more, until it registers anew."""
    tx.run("UPDATE datanode SET state = ? WHERE id = ?", (DEPARTED, datanode))


def may_rekey(snapshot: Snapshot, datanode: str) -> bool:
    """Whether it may register although it has only the key of a secret that a restore replaced."""
    return snapshot.row("SELECT 1 FROM rekey WHERE datanode = ?", (datanode,)) is not None


def unkeyed(snapshot: Snapshot) -> list[str]:
    """Those that have not registered since the store was restored: they can check no capability of its secret."""
    return [name for (name,) in snapshot.rows("SELECT id FROM datanode WHERE boot = ?", (_NO_BOOT,))]


def begin_rekeying(tx: Transaction) -> None:
    """The secret was replaced: all known lives are over, and each datanode may register once more without its key."""
    tx.run("UPDATE datanode SET boot = ?, incarnation = incarnation + 1", (_NO_BOOT,))
    tx.run("INSERT OR IGNORE INTO rekey (datanode) SELECT id FROM datanode WHERE state = ?", (IN_SERVICE,))


def rekeyed(tx: Transaction, datanode: str) -> None:
    """It has proved that it has its new key: from now on it always must."""
    tx.run("DELETE FROM rekey WHERE datanode = ?", (datanode,))


def set_admin_state(tx: Transaction, datanode: str, state: AdminState, *, until_ms: int = 0) -> None:
    """Keep what an operator decided, or what became of it. `until_ms` is the end of a maintenance."""
    tx.run("UPDATE datanode SET admin_state = ?, admin_until_ms = ? WHERE id = ?", (state, until_ms, datanode))


def set_volumes(tx: Transaction, datanode: str, volumes: Sequence[VolumeState]) -> None:
    """Keep what volumes it has, so that a namenode that starts anew can place chunks before the next heartbeat."""
    tx.run("UPDATE datanode SET volumes = ? WHERE id = ?", (_encode(volumes), datanode))


def _encode(volumes: Sequence[VolumeState]) -> bytes:
    return msgspec.json.encode(list(volumes))


def _datanode(row: Row) -> Datanode:
    num, name, peer_url, client_url, rack, version, boot, incarnation, volumes, admin_state, until_ms = row
    return Datanode(
        num=num,
        id=name,
        peer_url=peer_url,
        client_url=client_url,
        rack=rack,
        version=version,
        boot=boot.hex(),
        incarnation=incarnation,
        volumes=tuple(_volumes.decode(volumes)),
        admin_state=admin_state,
        admin_until_ms=until_ms,
    )
