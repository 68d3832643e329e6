"""The settings of a datanode, each with its unit, its default, and why. Documentation is generated from here."""

from dataclasses import dataclass

from dfs.protocol.settings import setting


@dataclass(frozen=True)
class DatanodeSettings:
    """Everything about a datanode that an operator may choose."""

    dirs: tuple[str, ...] = setting(
        ("dfs-datanode",), "Directories that keep the chunks, best one for each disk: they fail one by one."
    )
    listen: str = setting("127.0.0.1:9864", "Address to serve on, HOST:PORT; port 0 takes any free one.")
    namenode: tuple[str, ...] = setting(
        ("http://127.0.0.1:9870",), "URLs of the namenodes; the datanode registers with and reports to all of them."
    )
    rack: str = setting("default", "Machines that may fail together share a rack; replicas go to at least two racks.")
    peer_url: str = setting("", "URL at which other datanodes reach this one; empty: where it listens.")
    client_url: str = setting(
        "", "URL at which clients reach this one; differs from peer_url behind NAT or in compose."
    )
    datanode_id: str = setting(
        "", "Name of this datanode in its cluster; empty: minted once and kept in its directories."
    )
    join_secret: str = setting("", "What the namenode asks of a datanode that joins; empty where joining is open.")
    insecure: bool = setting(False, "Allow to listen beyond this machine although callers are not authenticated.")
    reserve_bytes: int = setting(1 << 30, "Left free on each disk for everything that is not a chunk: 1 GiB.")
    reserve_fraction: float = setting(0.01, "The same as a share of the disk; the greater of the two counts.")
    max_streams: int = setting(64, "Chunks being received at once; each has a thread and 4 MiB. More get 503.")
    read_threads: int = setting(
        8, "Threads that read from the disks for GETs, so that a slow disk never stops the loop."
    )
    repair_streams: int = setting(2, "Chunks pulled from other datanodes at once; the foreground keeps the rest.")
    repair_bytes_per_s: int = setting(
        100 << 20,
        "Bytes per second of repairs each way, pulled and served, so that readers and writers keep their share of the "
        "network: 100 MiB/s, what one link of 1 Gbit/s carries. 0: no limit.",
    )
    durability: str = setting(
        "sync",
        "When a chunk is acknowledged. sync: once it is synced; batch: after one sync for all that come within 50 ms; "
        "none: from the page cache, so that a power cut may take it.",
    )
    scrub_period_s: float = setting(
        14 * 86400.0, "Every byte is read again and verified within so many seconds, so that rot is found: 14 days."
    )
    scrub_bytes_per_s_min: int = setting(
        4 << 20, "A scrub is at least so fast, each volume: 4 MiB/s, so that small volumes are done soon."
    )
    scrub_bytes_per_s_max: int = setting(
        64 << 20, "A scrub is never faster, each volume: 64 MiB/s reads 25 TB in the period, and leaves a disk usable."
    )
    probe_interval_s: float = setting(
        3.0, "Seconds between two probes of each volume: a small write, sync and read, in the rhythm of the heartbeats."
    )
    probe_timeout_s: float = setting(
        10.0, "Seconds after which a probe that has not come back takes its volume out of service: the disk hangs."
    )
    quarantine_age_s: float = setting(
        7 * 86400.0, "Seconds that bad replicas are kept for those who want to know what happened to them: a week."
    )
    quarantine_bytes: int = setting(
        1 << 30, "Bytes of bad replicas that are kept on each volume, the newest ones; fewer while space runs short."
    )
    idle_body_s: float = setting(60.0, "Seconds of silence after which a sender is given up and its chunk thrown away.")
    no_progress_s: float = setting(
        5.0, "Seconds that the next datanode of a chain may take no byte, or show no sign of life, before it is failed."
    )
    receipts_s: float = setting(
        15.0, "Seconds to wait for the receipt of a datanode that has the last byte, and shows that it is alive."
    )
    trash_age_s: float = setting(
        3600.0, "Seconds that deleted chunks stay in the local trash, unless space runs short."
    )
    report_pause_s: float = setting(
        0.05, "Seconds of rest after each 1000 trailers read for a report, for other readers."
    )
    drain_s: float = setting(
        1.0, "Seconds that streams get to clean up, after SIGTERM and the 5 in which the server lets requests end."
    )
    exit_with_parent: bool = setting(False, "End when the process that started this one ends.")
    log_level: str = setting("info", "How much is logged to stderr: debug, info, warning or error.")
