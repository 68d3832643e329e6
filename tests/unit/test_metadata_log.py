"""The bytes of a backup: what was written is read, and nothing that differs from it by a bit."""

import io
import random

import pytest

from dfs.protocol.errors import CorruptReplica
from dfs.protocol.metadata_log import (
    EXTENTS_IN_RECORD,
    FRAME_BYTES,
    BackupHeader,
    BackupReader,
    BackupWriter,
    LoggedChange,
    LoggedChunk,
    LoggedContent,
    LoggedDatanode,
    LoggedExtents,
    LoggedInode,
    LoggedPlace,
    Record,
    entries,
)

CHUNK, DIGEST = b"c" * 16, b"d" * 16
HEADER = BackupHeader(
    kind="changes", cluster="a" * 32, lineage="b" * 32, from_seq=3, to_seq=9, made_ms=5, schema_version=1
)  # fmt: skip
FILE = LoggedInode(7, 0, 0o644, "me", "us", -1, 9, 70, None)
RECORDS: list[Record] = [
    LoggedDatanode(1, "dn1", "http://p", "http://c", "r", "1", bytes(16), 2, "in_service", 5, b"[]", "draining", 9),
    LoggedChunk(CHUNK, 10, DIGEST, 3, [(1, bytes(16), 0)]),
    LoggedContent(70, 10, DIGEST, 2, '{"k":"v"}', [(0, CHUNK, 0, 4, DIGEST)]),
    LoggedExtents(70, [(4, CHUNK, 4, 6, DIGEST)]),
    LoggedPlace(1, "f", "/f", FILE),
    LoggedPlace(1, "gone", "/gone", None),
    LoggedPlace(1, "d", "/d", LoggedInode(8, 1, 0o755, "", "", 0, 9, None, None)),
    LoggedPlace(5, "lost", None, None),
    LoggedChange(9, 0, "put", 7, 1, "f", None, None, 70, None, b"x", 5, "me"),
]


def written(records: list[Record]) -> bytes:
    file = io.BytesIO()
    writer = BackupWriter(file, HEADER)
    for record in records:
        writer.add_record(record)
    size = writer.finish()
    assert size == len(file.getvalue())
    return file.getvalue()


def test_what_was_written_is_read() -> None:
    reader = BackupReader(io.BytesIO(written(RECORDS)))
    assert reader.header == HEADER
    assert list(reader.records()) == RECORDS


def test_entries_have_their_pieces_with_the_facts_of_the_chunks() -> None:
    file, directory = entries(RECORDS)
    assert (file.path, file.kind, file.size, file.replication, file.attributes) == ("/f", "file", 10, 2, {"k": "v"})
    assert [(e.position, e.offset, e.length, e.chunk_length, e.chunk_replication) for e in file.extents] == [
        (0, 0, 4, 10, 3),
        (4, 4, 6, 10, 3),
    ]
    assert (directory.path, directory.kind) == ("/d", "directory")


@pytest.mark.parametrize("missing", [1, 2])
def test_a_file_without_its_chunk_or_content_is_no_entry(missing: int) -> None:
    with pytest.raises(CorruptReplica):
        list(entries([record for number, record in enumerate(RECORDS[:5]) if number != missing]))


def test_no_bit_can_be_flipped_and_nothing_cut_off_or_left_out_without_being_noticed() -> None:
    raw = written(RECORDS)
    damaged = [raw[:end] for end in range(len(raw))]
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << (place % 8)
        damaged.append(bytes(flipped))
    for one in damaged:
        with pytest.raises(CorruptReplica):
            list(BackupReader(io.BytesIO(one)).records())


def test_a_frame_that_is_left_out_is_noticed_though_all_others_are_right() -> None:
    file = io.BytesIO()
    writer = BackupWriter(file, HEADER)
    sizes = [writer.size]
    for fill in (b"1", b"2", b"3"):
        writer.add_bytes(fill * 100)
        sizes.append(writer.size)
    writer.finish()
    raw = file.getvalue()
    without = raw[: sizes[1]] + raw[sizes[2] :]
    with pytest.raises(CorruptReplica, match="end of the backup"):
        list(BackupReader(io.BytesIO(without)).frames())


def test_many_records_make_frames_of_bounded_size() -> None:
    rng = random.Random(1)
    extents = [(n, rng.randbytes(16), 0, 1, rng.randbytes(16)) for n in range(EXTENTS_IN_RECORD)]
    many: list[Record] = [LoggedExtents(1, extents)] * 50
    reader = BackupReader(io.BytesIO(written(many)))
    frames = [len(frame) for frame in reader.frames()]
    assert len(frames) > 1
    assert max(frames) <= FRAME_BYTES + 5
    assert list(BackupReader(io.BytesIO(written(many))).records()) == many


def test_a_backup_of_a_later_format_is_refused_by_name() -> None:
    file = io.BytesIO()
    later = BackupHeader(**{name: getattr(HEADER, name) for name in HEADER.__struct_fields__} | {"version": 2})
    BackupWriter(file, later).finish()
    file.seek(0)
    with pytest.raises(CorruptReplica, match="format 2"):
        BackupReader(file)


def test_a_frame_that_claims_to_be_huge_is_not_read() -> None:
    raw = written([])
    tail = (0xFFFFFFFF).to_bytes(4, "little") * 2 + bytes(8)
    with pytest.raises(CorruptReplica, match="frame 0"):
        list(BackupReader(io.BytesIO(raw[:-24] + tail)).frames())
