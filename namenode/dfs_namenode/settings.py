"""What a namenode can be told: one frozen dataclass, from which the options, the documentation and the example follow.

Separate so that whoever starts a namenode (the command, `mini`, a test) needs nothing else of it.
"""

from dataclasses import dataclass

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import CHUNK_SIZE_DEFAULT, CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, REPLICATION_MAX
from dfs.protocol.settings import setting

_MIB = 1 << 20
_DAY_S = 86_400.0


@dataclass(frozen=True)
class NamenodeSettings:
    """Settings of the role `namenode`; units are in the names."""

    dir: str = setting("dfs-namenode", "Where the store and the cluster's secret are. One namenode at a time.")
    listen: str = setting("127.0.0.1:9870", "HOST:PORT to serve on; port 0 takes any free one. 9870 as HDFS has it.")
    insecure: bool = setting(
        False, "Allow an address that other machines reach. Without users and TLS, whoever reaches it may do anything."
    )
    exit_with_parent: bool = setting(False, "Stop when the process that started this one is gone.")
    join_secret: str = setting(
        "", "What a datanode must show to join; empty lets any join that can reach the namenode."
    )
    log_level: str = setting("info", "debug, info, warning or error; the log goes to stderr.")

    replication: int = setting(3, "Replicas of a chunk when the writer does not say; three outlive two failures.")
    chunk_size_bytes: int = setting(CHUNK_SIZE_DEFAULT, "Chunk size that clients use; 64 MiB repairs in seconds.")
    pack_limit_bytes: int = setting(
        _MIB, "Files up to this size (and a chunk's) travel in packs; larger ones have their own chunks."
    )

    webhdfs_data: str = setting(
        "datanode",
        "Where WebHDFS sends clients for bytes. datanode: straight to one; namenode: back here, which passes the bytes "
        "on, for clients that can't reach datanodes (NAT, Docker).",
    )

    heartbeat_interval_s: float = setting(3.0, "How often datanodes report that they are alive.")
    stale_after_s: float = setting(15.0, "Silence after which a datanode gets no new chunks and is read from last.")
    dead_after_s: float = setting(
        300.0, "Silence after which its replicas are made anew elsewhere; long enough for a restart."
    )
    settle_s: float = setting(
        30.0, "After a restart: how long nothing is deleted or repaired once every datanode is back or dead."
    )
    report_interval_s: float = setting(6 * 3600.0, "How often datanodes send a full chunk report.")
    reports_at_once: int = setting(6, "Datanodes that are asked for a report at the same time, so that none floods us.")

    capability_ttl_s: float = setting(1800.0, "How long a grant to write or read a chunk is good.")
    chunk_commit_window_s: float = setting(12 * 3600.0, "How old a chunk may be when it is committed.")
    read_grace_s: float = setting(
        1800.0, "How long a removed or replaced content is kept for readers that have it open."
    )
    orphan_age_s: float = setting(
        24 * 3600.0, "Age at which a replica that nobody committed is worth deleting; twice the commit window."
    )
    op_retention_s: float = setting(3600.0, "How long results are kept for clients that repeat an operation.")
    change_retention_s: float = setting(7 * _DAY_S, "How long the change log is kept.")
    draft_idle_s: float = setting(7 * _DAY_S, "How long an upload that nobody touches is kept.")

    backup_interval_s: float = setting(
        60.0,
        "How often what changed is backed up into the cluster itself: what a lost store may cost. 0: never.",
    )
    backup_snapshot_interval_s: float = setting(
        _DAY_S, "Age at which the last copy of the whole store is replaced by a new one, if anything changed."
    )

    monitor_interval_s: float = setting(3.0, "Pause between two turns of the loops that repair and clean up.")
    repair_streams: int = setting(2, "Repairs that one datanode sends, and that one takes, at a time.")
    command_timeout_s: float = setting(30.0, "A command to a datanode that has no answer by then is given again.")
    delete_share_per_hour: float = setting(
        0.01, "Share of all chunks that may be deleted in an hour before a brake holds the rest back."
    )
    delete_burst_chunks: int = setting(20_000, "Chunks that may be deleted in an hour whatever their share.")

    balance_bytes_per_s: int = setting(
        32 << 20, "How fast `balance` copies, over all datanodes: slow enough that nobody notices it."
    )

    compaction_bytes_per_s: int = setting(
        16 << 20, "How fast the live bytes of chunks that are mostly dead are copied into new ones, over all datanodes."
    )

    def __post_init__(self) -> None:
        for name, low, high in (
            ("replication", 1, REPLICATION_MAX),
            ("chunk_size_bytes", CHUNK_SIZE_MIN, CHUNK_SIZE_MAX),
            ("pack_limit_bytes", 0, CHUNK_SIZE_MAX),
            ("heartbeat_interval_s", 0.05, 3600.0),
            ("monitor_interval_s", 0.05, 3600.0),
            ("backup_interval_s", 0.0, _DAY_S),
            ("backup_snapshot_interval_s", 1.0, 365 * _DAY_S),
            ("repair_streams", 1, 64),
            ("reports_at_once", 1, 1000),
            ("balance_bytes_per_s", 1, 1 << 40),
            ("compaction_bytes_per_s", 1, 1 << 40),
            ("delete_share_per_hour", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidRequest(f"the setting {name} must be from {low} to {high}, not {value}")
        if not self.heartbeat_interval_s < self.stale_after_s <= self.dead_after_s:
            raise InvalidRequest(
                "the settings must be in this order: heartbeat_interval_s < stale_after_s <= dead_after_s"
            )
        if self.webhdfs_data not in ("datanode", "namenode"):
            raise InvalidRequest(f"the setting webhdfs_data must be datanode or namenode, not {self.webhdfs_data!r}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise InvalidRequest(f"the setting log_level must be debug, info, warning or error, not {self.log_level!r}")
