"""Disks of a test's own: a small ext4 file system in a file, that fills up, turns read-only, or vanishes.

A loop device rather than a tmpfs, because only a real file system turns read-only under open files, as the kernel does
it after an error of the disk. Needs root and loop devices; `why_no_disks` says what is missing.
"""

import fcntl
import os
import shutil
import subprocess
import time

from dfs.testing.impossible import Impossible

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
"""Of linux/fs.h: whoever writes to the file system waits, in the kernel, until it is thawed."""
_UNMOUNT_TIMEOUT_S = 10.0
_FILL_PIECE = 1 << 20


def why_no_disks() -> str | None:
    """Why this machine can't mount a disk of one's own; None if it probably can."""
    if os.geteuid() != 0:
        return "mounting a disk of one's own needs root"
    if shutil.which("mkfs.ext4") is None or not os.path.exists("/dev/loop-control"):
        return "there is no mkfs.ext4, or there are no loop devices"
    return None


class LoopDisk:
    """One file system of its own, mounted at `path`; unmounted and removed at the end of a `with` statement.

    directory   where the image and the mount point go
    Raises      Impossible: not on this machine
    """

    def __init__(self, directory: str, size_bytes: int, *, name: str = "disk") -> None:
        reason = why_no_disks()
        if reason is not None:
            raise Impossible(reason)
        self._image = os.path.join(directory, f"{name}.img")
        self.path = os.path.join(directory, name)
        os.makedirs(self.path, exist_ok=True)
        with open(self._image, "wb") as file:
            file.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        try:
            self._mount()
        except RuntimeError as error:
            raise Impossible(f"a loop device can't be mounted here: {error}") from None

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.path)

    def unmount(self) -> None:
        """Take it away once all its users are gone. Raises RuntimeError: they are not."""
        deadline = time.monotonic() + _UNMOUNT_TIMEOUT_S
        while os.path.ismount(self.path):
            try:
                _run("umount", self.path)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def remove(self) -> None:
        """Unmount it, and remove its image."""
        self.unmount()
        if os.path.exists(self._image):
            os.unlink(self._image)

    def __enter__(self) -> "LoopDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class SmallDisk(LoopDisk):
    """A disk that fails as whole disks do."""

    def __enter__(self) -> "SmallDisk":
        return self

    @property
    def free_bytes(self) -> int:
        space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Write a file until no more than `leave_bytes` are free."""
        with open(self._ballast, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while (wanted := self.free_bytes - leave_bytes) > 0:
                piece = min(wanted, _FILL_PIECE)
                try:
                    os.posix_fallocate(file.fileno(), size, piece)
                except OSError:
                    # What is left is kept back by the file system itself.
                    return
                size += piece

    def empty(self) -> None:
        """Take away what `fill` wrote."""
        if os.path.exists(self._ballast):
            os.unlink(self._ballast)

    @property
    def _ballast(self) -> str:
        return os.path.join(self.path, ".ballast")

    def fail_read_only(self) -> None:
        """Turn read-only as after an error of the disk, whoever has files open. Mount it again to heal it.

        Raises  Impossible: this kernel can't be told to
        """
        device = os.path.basename(_run("findmnt", "-n", "-o", "SOURCE", "--mountpoint", self.path).strip())
        trigger = f"/sys/fs/ext4/{device}/trigger_fs_error"
        try:
            with open(trigger, "w", encoding="ascii") as file:
                file.write("a test made this happen")
        except OSError as error:
            raise Impossible(f"{trigger} can't be written: {error.strerror}") from None

    def hang(self) -> None:
        """Let every write and sync wait, in the kernel, until `answer_again`. Raises Impossible."""
        try:
            self._freezing(_FIFREEZE)
        except OSError as error:
            raise Impossible(f"this file system can't be frozen: {error.strerror}") from None

    def answer_again(self) -> None:
        """End a `hang`; nothing happens if there is none."""
        try:
            self._freezing(_FITHAW)
        except OSError:
            # It does not hang.
            return

    def _freezing(self, request: int) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, request, 0)
        finally:
            os.close(descriptor)

    def pull_out(self) -> None:
        """Unmount it from under its users (lazily): they see the empty mount point from now on."""
        _run("umount", "--lazy", self.path)

    def put_back(self) -> None:
        """Mount it again, repaired. For `fail_read_only` all users must be gone."""
        self.unmount()
        # e2fsck answers 1 for "repaired".
        subprocess.run(["e2fsck", "-p", "-f", self._image], capture_output=True)
        self._mount()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
