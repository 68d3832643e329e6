"""Small local files that get their name when they are complete: never a half one, and nothing to remove afterwards.

Separate from the temporary names of `get_tree`, which serve every file system and files of any size: here the file has
no name at all until its bytes are there (O_TMPFILE), and one link gives it one. That is two changes of a directory less
for each of thousands of files, and a process that is killed leaves nothing behind.
"""

import errno
import os

from dfs.protocol.digests import Buffer
from dfs.protocol.errors import FileExists
from dfs.protocol.messages import Entry
from dfs.reader import pwrite_all

_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
"""What a file system, or a kernel, says that has no such files."""
_FLAGS = os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_TMPFILE", 0)


class UnnamedFiles:
    """Writes such files, where they are possible. Usable from several threads."""

    def __init__(self) -> None:
        self._possible = hasattr(os, "O_TMPFILE")
        """As far as is known: one file system that can't is enough to ask no more."""

    def write(self, target: str, data: Buffer, *, entry: Entry | None, overwrite: bool) -> bool:
        """Make the file `target` of `data`. False: not in this way, and nothing has happened.

        entry   whose mode and time it gets, or None
        Raises  FileExists: `target` is there, and `overwrite` is not wanted; NoSpace, OSError: it can't be written
        """
        if not self._possible:
            return False
        try:
            descriptor = os.open(os.path.dirname(target) or ".", _FLAGS, 0o666)
        except OSError as error:
            # The other way says what is wrong if it is not this.
            self._possible = error.errno not in _UNSUPPORTED
            return False
        try:
            pwrite_all(descriptor, data, 0, target)
            if entry is not None:
                os.fchmod(descriptor, entry.mode)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            # With a directory's descriptor, even one that an absolute path makes superfluous, links are followed.
            os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=descriptor)
        except FileExistsError:
            if overwrite:
                return False
            raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target) from None
        except OSError as error:
            if error.filename2 is None:
                raise
            return False
        finally:
            os.close(descriptor)
        return True
