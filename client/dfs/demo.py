"""`make demo`: what dfs is for, shown in a minute with real files and a real failure.

Starts a cluster as `dfs mini` does, stores Python's own standard library and a big file, kills a datanode with SIGKILL,
reads everything back and compares digests. It asserts what it says: a difference ends it with exit code 6. Everything
lies in one temporary directory, which is removed at the end.
"""

import hashlib
import os
import random
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from dfs.cli.show import human_size
from dfs.client import Client, connect
from dfs.mini import Mini, Plan
from dfs.processes import ServerProcess
from dfs.protocol.errors import EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, DfsError

T = TypeVar("T")

BIG_FILE_BYTES = 256 << 20
SEED = 2003
"""Of the big file's bytes, which no compression makes smaller."""
ROOM_BYTES = 3 << 30
"""Three replicas of everything, and two copies outside the cluster."""
VICTIM = 1
"""Which datanode dies; it holds a replica of everything."""
_PIECE = 1 << 20
_NOT_COPIED = ("site-packages", "dist-packages", "__pycache__", "config-*", "*.a", "*.pyc")
"""Of the standard library's directory: what others installed there, and what Python makes anew."""


@dataclass(frozen=True)
class Tree:
    """What a directory tree holds."""

    digests: dict[str, str]
    """SHA-256 of each file by its path below the top."""
    size: int


def main() -> int:
    """Tell the story; the exit code."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    try:
        began = time.monotonic()
        with _room() as directory:
            good = _story(directory)
        return _conclude(good, time.monotonic() - began)
    except KeyboardInterrupt:
        tell("\nStopped; nothing is left behind.")
        return EXIT_INTERRUPTED
    except DfsError as error:
        sys.stderr.write(f"dfs: {error.message}\n")
        return error.exit_code


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _story(directory: str) -> bool:
    """Whether every byte came back."""
    tell("dfs keeps files on many machines. Here the machines are processes.")

    chapter(1, "A cluster: 1 namenode and 3 datanodes")
    mini = Mini(Plan(os.path.join(directory, "cluster"), port=0, datanodes=3))
    try:
        seconds, _ = timed(mini.start)
        for process in (mini.namenode, *mini.datanodes):
            say(f"{process.name:<10}  {process.url:<23} process {process.pid}")
        say(f"ready after {seconds:.1f} s")
        fs = connect(mini.namenode.url)
        try:
            return _store_kill_and_compare(fs, mini, directory)
        finally:
            fs.close()
    finally:
        mini.stop()


def _conclude(good: bool, seconds: float) -> int:
    tell()
    if not good:
        tell("The bytes differ: that must never happen. Please report it.")
        return EXIT_INTEGRITY
    tell(f"All of it was right; {seconds:.0f} s in all. The cluster is stopped and its files are removed.")
    tell("Your own cluster:  .venv/bin/dfs mini")
    return EXIT_OK


def _store_kill_and_compare(fs: Client, mini: Mini, directory: str) -> bool:
    library = os.path.join(directory, "library")
    big_file = os.path.join(directory, "big.bin")

    chapter(2, "Real files")
    shutil.copytree(
        sysconfig.get_paths()["stdlib"],
        library,
        ignore=shutil.ignore_patterns(*_NOT_COPIED),
        ignore_dangling_symlinks=True,
    )
    tree = measure(library)
    say(f"Python's own standard library: {len(tree.digests)} files, {human_size(tree.size)}")
    big_digest = make_big_file(big_file)
    say(f"one big file of random bytes:  {human_size(BIG_FILE_BYTES)}")

    chapter(3, "Store them, every byte on 3 datanodes, synced to disk")
    seconds, _ = timed(lambda: fs.put_tree(library, "/library"))
    say(f"/library  {rate(tree.size, seconds)}, {len(tree.digests) / seconds:.0f} files/s")
    seconds, _ = timed(lambda: fs.put(big_file, "/big.bin"))
    say(f"/big.bin  {rate(BIG_FILE_BYTES, seconds)}")
    status = fs.status()
    say(f"{status.files} files share {status.chunks} chunks: small ones are packed together")

    victim = mini.datanodes[VICTIM]
    chapter(4, f"A datanode dies: SIGKILL to {victim.name}, process {victim.pid}")
    kill(victim)
    say("gone, without a word to anybody; a third of all replicas with it")

    chapter(5, "Read everything back, and compare")
    fetched, fetched_big = os.path.join(directory, "fetched"), os.path.join(directory, "fetched.bin")
    seconds, _ = timed(lambda: fs.get_tree("/library", fetched))
    say(f"/library  {rate(tree.size, seconds)}, {len(tree.digests) / seconds:.0f} files/s")
    seconds, _ = timed(lambda: fs.get("/big.bin", fetched_big))
    say(f"/big.bin  {rate(BIG_FILE_BYTES, seconds)}")
    again = measure(fetched)
    different = (tree.digests.keys() | again.digests.keys()) - {
        path for path, digest in tree.digests.items() if again.digests.get(path) == digest
    }
    say(f"/library  {len(tree.digests)} SHA-256 digests compared, {len(different)} differ")
    same = digest_of(fetched_big) == big_digest
    say(f"/big.bin  SHA-256 {big_digest[:16]}… {'is the same' if same else 'DIFFERS'}")

    chapter(6, "It comes back, with all that it had")
    seconds, _ = timed(lambda: revive(victim))
    say(f"{victim.name} serves again after {seconds:.1f} s; nothing had to be copied")
    return not different and same


def tell(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def chapter(number: int, title: str) -> None:
    tell(f"\n{number}. {title}")


def say(text: str) -> None:
    tell(f"   {text}")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it took, and its result."""
    began = time.monotonic()
    result = work()
    return max(time.monotonic() - began, 0.001), result


def rate(size: int, seconds: float) -> str:
    return f"{human_size(size)} in {seconds:.1f} s, {human_size(size / seconds)}/s"


def kill(process: ServerProcess) -> None:
    process.signal(signal.SIGKILL)
    process.wait()


def revive(process: ServerProcess) -> None:
    process.start()
    process.wait_ready(time.monotonic() + 30)


def make_big_file(path: str) -> str:
    """Write BIG_FILE_BYTES random bytes; their SHA-256."""
    rng = random.Random(SEED)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(BIG_FILE_BYTES // _PIECE):
            piece = rng.randbytes(_PIECE)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: str) -> str:
    """The SHA-256 of a local file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(top: str) -> Tree:
    """Digest every file of a local tree."""
    digests: dict[str, str] = {}
    size = 0
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            digests[os.path.relpath(path, top)] = digest_of(path)
            size += os.path.getsize(path)
    return Tree(digests, size)


@contextmanager
def _room() -> Iterator[str]:
    """A temporary directory with enough space, removed at the end."""
    candidates = [tempfile.gettempdir(), os.getcwd()]
    roomy = [place for place in candidates if shutil.disk_usage(place).free >= ROOM_BYTES]
    if not roomy:
        sys.exit(
            f"dfs: the demo needs {human_size(ROOM_BYTES)} free in {' or '.join(candidates)}: make room, or set TMPDIR"
        )
    directory = tempfile.mkdtemp(prefix="dfs-demo-", dir=roomy[0])
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
