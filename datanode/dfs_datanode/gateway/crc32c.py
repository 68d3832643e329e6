"""HDFS's checksum of a file: MD5 over the MD5s of its blocks, each over the CRC-32C of every 512 bytes. Pure.

Python has no CRC-32C, and a loop over bytes would read 5 MB/s. Here the runs of 512 bytes are computed side by side:
the first bytes of all of them, then the second ones, and so on; a step is a table look-up (`bytes.translate`) and an
exclusive or of whole columns as one long number, both at the speed of C.
"""

import hashlib

RUN_BYTES = 512
"""Of each CRC."""
_POLYNOMIAL = 0x82F63B78
_SUMS_BYTES_MIN = 32


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()
_LOOK_UP = tuple(bytes(value >> shift & 0xFF for value in _TABLE) for shift in (0, 8, 16, 24))
"""The table by bytes, the lowest first."""


def crc32c(data: bytes | memoryview) -> int:
    """Of a short run of bytes."""
    value = 0xFFFFFFFF
    for byte in bytes(data):
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def crcs(data: bytes | memoryview) -> bytes:
    """The CRC-32C of each 512 bytes, and of the rest, as big-endian numbers one after the other."""
    whole = len(data) // RUN_BYTES
    raw = bytes(data)
    found = bytearray(4 * whole)
    if whole:
        for place, column in enumerate(_side_by_side(raw, whole)):
            found[3 - place :: 4] = column
    if len(raw) > whole * RUN_BYTES:
        found += crc32c(raw[whole * RUN_BYTES :]).to_bytes(4, "big")
    return bytes(found)


def _side_by_side(raw: bytes, count: int) -> list[bytes]:
    """The CRCs of the first `count` runs, as four columns of bytes, the lowest first."""
    end = count * RUN_BYTES
    ones = (1 << 8 * count) - 1
    first = second = third = fourth = ones
    look_0, look_1, look_2, look_3 = _LOOK_UP
    for position in range(RUN_BYTES):
        column = int.from_bytes(raw[position:end:RUN_BYTES], "little")
        index = (first ^ column).to_bytes(count, "little")
        first = int.from_bytes(index.translate(look_0), "little") ^ second
        second = int.from_bytes(index.translate(look_1), "little") ^ third
        third = int.from_bytes(index.translate(look_2), "little") ^ fourth
        fourth = int.from_bytes(index.translate(look_3), "little")
    return [(plane ^ ones).to_bytes(count, "little") for plane in (first, second, third, fourth)]


class FileChecksum:
    """The checksum of a file that is read from its beginning.

    block_size  bytes; a multiple of 512
    """

    def __init__(self, block_size: int) -> None:
        assert block_size % RUN_BYTES == 0, "a block is whole runs"
        self._block_size = block_size
        self._sums = bytearray()
        self._block = hashlib.md5(usedforsecurity=False)
        self._in_block = 0

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes: whole runs, but for the last of the file."""
        view = memoryview(data)
        while view:
            part = view[: self._block_size - self._in_block]
            self._block.update(crcs(part))
            self._in_block += len(part)
            view = view[len(part) :]
            if self._in_block == self._block_size:
                self._end_block()

    def _end_block(self) -> None:
        self._sums += self._block.digest()
        self._block = hashlib.md5(usedforsecurity=False)
        self._in_block = 0

    def result(self) -> dict[str, object]:
        """What WebHDFS calls a FileChecksum."""
        if self._in_block:
            self._end_block()
        blocks = len(self._sums) // 16
        per_block = self._block_size // RUN_BYTES if blocks > 1 else 0
        # HDFS hashes its whole buffer, which begins with 32 bytes and doubles; what is behind the sums is zero.
        size = _SUMS_BYTES_MIN
        while size < len(self._sums):
            size *= 2
        whole = hashlib.md5(bytes(self._sums).ljust(size, b"\0"), usedforsecurity=False).digest()
        raw = RUN_BYTES.to_bytes(4, "big") + per_block.to_bytes(8, "big") + whole
        return {
            "algorithm": f"MD5-of-{per_block}MD5-of-{RUN_BYTES}CRC32C",
            "bytes": raw.hex(),
            "length": len(raw),
        }
