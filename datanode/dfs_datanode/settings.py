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
    idle_body_s: float = setting(60.0, "Seconds of silence after which a sender is given up and its chunk thrown away.")
    no_progress_s: float = setting(
        5.0, "Seconds that the next datanode of a chain may take no byte before it is failed."
    )
    receipts_s: float = setting(
        15.0, "Seconds to wait for the receipt of a datanode after the last byte of 64 MiB; a small chunk gets a third."
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
