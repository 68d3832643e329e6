"""What a writer encloses in its chunks for the day when the namenode's store is lost: where their bytes belong.

Separate from `protocol.hints`, which knows the form, and from those who send chunks, which know bytes and no names:
here it is decided what is known of a file while it is written. Nothing here may make a write fail or wait.
"""

from collections.abc import Callable, Iterable

from dfs.protocol.hints import FileHint, FilesHint, encode_hints
from dfs.protocol.ids import id_time_ms


def _at_the_beginning() -> int:
    return 0


class FileHints:
    """The hints of the chunks of one file, or of what is appended to one. Not for several threads.

    path    what the file is to be called
    upload  a new id: it joins the chunks of this version, and its time is when the upload began
    size    bytes of the whole file, if they are known before its end
    start   says where in the file the first byte lies; asked once, when the first chunk is sent
    """

    def __init__(self, path: str, upload: str, *, size: int = -1, start: Callable[[], int] = _at_the_beginning) -> None:
        self._path = path
        self._upload = upload
        self._size = size
        self._start = start
        self._first: int | None = None

    def of_chunk(self, position: int, length: int, *, is_last: bool = False) -> bytes:
        """The encoded hints of one chunk.

        position  of its first byte, counted from the first byte of the upload
        is_last   the upload ends with it: then the size is known
        """
        if self._first is None:
            self._first = self._start()
        position += self._first
        size = position + length if is_last and self._size < 0 else self._size
        return _encoded([FileHint(self._path, 0, length, position, size, self._upload)], self._upload)


def pack_hints(files: Iterable[tuple[str, int, int]], upload: str) -> bytes:
    """The encoded hints of a pack of whole files, given as path, offset and length; as many of them as fit."""
    return _encoded([FileHint(path, offset, length, 0, length, upload) for path, offset, length in files], upload)


def _encoded(files: list[FileHint], upload: str) -> bytes:
    return encode_hints(FilesHint(id_time_ms(upload), files, complete=True))
