import zlib

import msgspec
import pytest
import xxhash

from dfs.protocol.hints import (
    HINTS_MAX,
    FileHint,
    FilesHint,
    MetadataHint,
    decode_hints,
    encode_hints,
    hints_are_whole,
)

UPLOAD = "01" * 16
ONE = FilesHint(1_700_000_000_000, [FileHint("/a/ä.txt", 0, 5, 7, -1, UPLOAD)], complete=True)
BACKUP = MetadataHint("changes", 5, 9, 0, 2, 1 << 40, 1_700_000_000_000, "ab" * 16)


def sealed(body: bytes) -> bytes:
    return body + xxhash.xxh3_64_digest(body)


def of_files(count: int, name: str = "/data/2026/projects/photos/IMG_{:06}.jpg") -> FilesHint:
    files = [FileHint(name.format(n), n * 4096, 4000 + n % 97, 0, 4000 + n % 97, UPLOAD) for n in range(count)]
    return FilesHint(1_700_000_000_000, files, complete=True)


@pytest.mark.parametrize("hints", [ONE, BACKUP, of_files(0), of_files(500)])
def test_hints_come_back_as_they_were_given(hints: FilesHint | MetadataHint) -> None:
    raw = encode_hints(hints)
    assert len(raw) <= HINTS_MAX
    assert hints_are_whole(raw)
    assert decode_hints(raw) == hints
    assert decode_hints(memoryview(bytearray(raw))) == hints


def test_the_first_form_is_read_for_ever() -> None:
    plain = bytes.fromhex(
        "84a474797065a566696c6573aa7772697474656e5f6d73cf0000018bcfe56800a566696c65739196a92f612fc3a42e747874000507ff"
        "d9203031303130313031303130313031303130313031303130313031303130313031a8636f6d706c657465c3"
    )
    assert decode_hints(sealed(b"\x01" + zlib.compress(plain))) == ONE


def test_no_hints_are_whole_and_say_nothing() -> None:
    assert hints_are_whole(b"")
    assert decode_hints(b"") is None


def test_every_flipped_bit_is_found() -> None:
    raw = encode_hints(ONE)
    for place in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[place // 8] ^= 1 << place % 8
        assert not hints_are_whole(damaged)
        assert decode_hints(damaged) is None
    assert not hints_are_whole(raw[:-1])
    assert not hints_are_whole(raw + b"\0")
    assert not hints_are_whole(raw[:8])


def test_hints_of_a_later_version_are_whole_and_not_understood() -> None:
    raw = sealed(b"\x02" + encode_hints(ONE)[1:-8])
    assert hints_are_whole(raw)
    assert decode_hints(raw) is None


def test_files_that_do_not_fit_are_dropped_from_the_end_and_it_is_said() -> None:
    # Names that can't be compressed: each needs its own bytes.
    names = ["".join(xxhash.xxh3_128_hexdigest(f"{n} {part}".encode()) for part in range(4)) for n in range(2000)]
    whole = FilesHint(1, [FileHint(f"/{name}", n, 1, 0, 1, "") for n, name in enumerate(names)], complete=True)
    raw = encode_hints(whole)
    got = decode_hints(raw)
    assert isinstance(got, FilesHint)
    assert not got.complete
    assert got.files == whole.files[: len(got.files)]
    assert HINTS_MAX * 0.8 < len(raw) <= HINTS_MAX


def test_longest_paths_of_a_whole_pack_fit_somehow() -> None:
    files = [FileHint("/" + f"{n:04}" * 1023, n, 1, 0, 1, UPLOAD) for n in range(2000)]
    raw = encode_hints(FilesHint(1, files, complete=True))
    got = decode_hints(raw)
    assert isinstance(got, FilesHint)
    assert len(raw) <= HINTS_MAX
    assert 100 < len(got.files) < 2000
    assert not got.complete


def test_a_whole_pack_of_ordinary_names_fits() -> None:
    got = decode_hints(encode_hints(of_files(2000)))
    assert isinstance(got, FilesHint)
    assert got.complete
    assert len(got.files) == 2000


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"type": "other"}),
        msgspec.msgpack.encode({"type": "files", "written_ms": -1, "files": [], "complete": True}),
        msgspec.msgpack.encode({"type": "files", "written_ms": 1, "files": [["", 0, 1, 0, 1, ""]], "complete": True}),
        msgspec.msgpack.encode(
            {"type": "files", "written_ms": 1, "files": [["/a", -1, 1, 0, 1, ""]], "complete": True}
        ),
        bytes(5 << 20),
    ],
)
def test_nonsense_says_nothing_even_with_a_right_digest(plain: bytes) -> None:
    raw = sealed(b"\x01" + zlib.compress(plain))
    assert hints_are_whole(raw)
    assert decode_hints(raw) is None


def test_a_body_that_is_no_stream_or_a_cut_one_says_nothing() -> None:
    assert decode_hints(sealed(b"\x01")) is None
    assert decode_hints(sealed(b"\x01nonsense")) is None
    assert decode_hints(sealed(encode_hints(of_files(50))[:-20])) is None
    without_checksum = encode_hints(ONE)[:-12]
    assert decode_hints(sealed(without_checksum)) is None
