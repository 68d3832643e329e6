"""The chunk file and its documentation, to the byte: what one version wrote every later one must read."""

import os
import re
from pathlib import Path

import pytest
import xxhash

from dfs.protocol import chunk_format as fmt
from dfs.protocol.chunk_format import Footer, Header
from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.errors import CorruptReplica, DigestMismatch
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.disk import Disk
from fixtures.disks import make_store

CHUNK = "018bcfe568000123456789abcdef0123"
CLUSTER = "c1" * 16
LINEAGE = "a7" * 16
CREATED_MS = 1_700_000_000_000
DATA = b"dfs keeps its word\n"
ROOT = "b145d2a67f8832fa37435455242b0011"

HEADER = bytes.fromhex(
    "4446534348554e4b 0100 0000 00400000"
    "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"
    "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7"
    "018bcfe568000123456789abcdef0123"
    "1300000000000000 0068e5cf8b010000"
).ljust(4088, b"\0") + bytes.fromhex("102a6be71e41c6e4")
FOOTER = bytes.fromhex("caa726f609b1b54f").ljust(4032, b"\0") + bytes.fromhex(
    "1300000000000000 01000000 00000000"
    "b145d2a67f8832fa37435455242b0011"
    "018bcfe568000123456789abcdef0123"
    "5e1a91b9923417d6 444653464f4f5431"
)
WIRE_FOOTER = bytes.fromhex("caa726f609b1b54f 1300000000000000 b145d2a67f8832fa37435455242b0011")
FILE = HEADER + DATA.ljust(4096, b"\0") + FOOTER
HINTS = bytes.fromhex("01 68696e7473 5117b47d7bd1245b")
WIRE_FOOTER_WITH_HINTS = WIRE_FOOTER[:8] + HINTS + WIRE_FOOTER[8:]
FOOTER_WITH_HINTS = (bytes.fromhex("caa726f609b1b54f") + HINTS).ljust(4032, b"\0") + bytes.fromhex(
    "1300000000000000 01000000 0e000000"
    "b145d2a67f8832fa37435455242b0011"
    "018bcfe568000123456789abcdef0123"
    "1604c16d97383120 444653464f4f5431"
)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "chunk-format.md"


def test_the_header_is_written_as_it_always_was() -> None:
    assert fmt.encode_header(Header(CLUSTER, LINEAGE, CHUNK, len(DATA), CREATED_MS)) == HEADER


def test_the_footer_is_written_as_it_always_was() -> None:
    table = block_table(DATA)
    assert fmt.encode_footer(Footer(CHUNK, len(DATA), table, root_digest(len(DATA), table))) == FOOTER


def test_the_wire_footer_is_written_as_it_always_was() -> None:
    table = block_table(DATA)
    assert fmt.encode_wire_footer(len(DATA), table, root_digest(len(DATA), table)) == WIRE_FOOTER
    assert fmt.wire_size(len(DATA)) == len(DATA) + len(WIRE_FOOTER)


def test_a_datanode_writes_exactly_the_golden_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    header = Header(CLUSTER, LINEAGE, CHUNK, len(DATA), CREATED_MS)
    with store.storing(header, len(DATA)) as (writer, volume):
        writer.write(DATA)
        writer.finish(WIRE_FOOTER)
    assert Path(volume.path_of(CHUNK)).read_bytes() == FILE
    assert volume.path_of(CHUNK) == os.path.join(str(tmp_path), "chunks", "23", f"{CHUNK}.chunk")


def test_hints_are_written_as_they_always_were(tmp_path: Path) -> None:
    table = block_table(DATA)
    root = root_digest(len(DATA), table)
    assert fmt.encode_wire_footer(len(DATA), table, root, HINTS) == WIRE_FOOTER_WITH_HINTS
    assert fmt.wire_size(len(DATA), len(HINTS)) == len(DATA) + len(WIRE_FOOTER_WITH_HINTS)
    assert fmt.check_wire_footer(WIRE_FOOTER_WITH_HINTS, len(DATA), table, root) == HINTS
    assert fmt.encode_footer(Footer(CHUNK, len(DATA), table, root, HINTS)) == FOOTER_WITH_HINTS
    store = make_store(tmp_path)
    header = Header(CLUSTER, LINEAGE, CHUNK, len(DATA), CREATED_MS)
    with store.storing(header, len(DATA), hints=len(HINTS)) as (writer, volume):
        writer.write(DATA)
        writer.finish(WIRE_FOOTER_WITH_HINTS)
    assert Path(volume.path_of(CHUNK)).read_bytes() == HEADER + DATA.ljust(4096, b"\0") + FOOTER_WITH_HINTS
    assert store.open(CHUNK).read_hints() == HINTS


def test_every_single_flipped_byte_of_a_wire_footer_is_noticed() -> None:
    table = block_table(DATA)
    root = root_digest(len(DATA), table)
    for footer in (WIRE_FOOTER, WIRE_FOOTER_WITH_HINTS):
        for place in range(len(footer)):
            with pytest.raises(DigestMismatch):
                fmt.check_wire_footer(
                    footer[:place] + bytes([footer[place] ^ 1]) + footer[place + 1 :], len(DATA), table, root
                )
    for size in range(len(WIRE_FOOTER)):
        with pytest.raises(DigestMismatch):
            fmt.check_wire_footer(WIRE_FOOTER[:size], len(DATA), table, root)


def test_a_datanode_reads_the_golden_file(tmp_path: Path) -> None:
    path = tmp_path / "golden"
    path.write_bytes(FILE)
    reader = ChunkReader(Disk(), str(path), CHUNK)
    assert reader.read_blocks(0, len(DATA)) == DATA
    assert reader.root.hex() == ROOT
    assert fmt.decode_header(HEADER) == Header(CLUSTER, LINEAGE, CHUNK, len(DATA), CREATED_MS)


def test_an_unknown_length_is_written_as_all_ones() -> None:
    header = fmt.encode_header(Header(CLUSTER, LINEAGE, CHUNK, None, CREATED_MS))
    assert header[64:72] == b"\xff" * 8
    assert fmt.decode_header(header).length is None


def test_hints_of_a_later_version_are_carried_and_do_not_disturb() -> None:
    table = block_table(DATA)
    footer = Footer(CHUNK, len(DATA), table, root_digest(len(DATA), table), hints=b"later" * 1000)
    raw = fmt.encode_footer(footer)
    assert len(raw) == fmt.footer_size(len(DATA), 5000)
    assert fmt.decode_footer(raw) == footer


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_file_of_another_format_version_is_refused(version: int) -> None:
    body = HEADER[:8] + bytes([version]) + HEADER[9:4088]
    with pytest.raises(CorruptReplica, match="format"):
        fmt.decode_header(body + xxhash.xxh3_64_digest(body))


def test_every_single_flipped_byte_of_header_and_footer_is_noticed() -> None:
    for place in range(0, 4096, 37):
        with pytest.raises(CorruptReplica):
            fmt.decode_header(HEADER[:place] + bytes([HEADER[place] ^ 1]) + HEADER[place + 1 :])
    for place in [*range(0, 4032, 37), *range(4032, 4096)]:
        with pytest.raises(CorruptReplica):
            fmt.decode_footer(FOOTER[:place] + bytes([FOOTER[place] ^ 1]) + FOOTER[place + 1 :])


def test_the_documented_example_is_the_golden_file() -> None:
    shown = bytearray(len(FILE))
    lines = re.findall(r"^(?:\w+)? +([0-9a-f]{4})  ((?:[0-9a-f]{2} ?| )+)", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(lines) == 13
    for offset_text, hex_text in lines:
        piece = bytes.fromhex(hex_text)
        offset = int(offset_text, 16)
        shown[offset : offset + len(piece)] = piece
    assert shown == FILE


def test_the_documented_wire_footer_is_the_golden_one() -> None:
    text = PAGE.read_text(encoding="utf-8").split("wire footer  ")[1].split("```")[0]
    assert bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", text))) == WIRE_FOOTER
