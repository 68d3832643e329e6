"""The thrasher's judgement notices what it is there for: a wrong byte, a lost file, a history without an order."""

import pytest

from dfs.testing.files_model import MISSING, Done, Put, Read, ReadRange
from dfs.testing.linearizability import UNKNOWN, Call, check
from fixtures.page import PAGE_BEGIN, PAGE_END, Section, page_text, write_page
from fixtures.reliability import Figures, Peak, Period
from fixtures.workload import LEAST_BYTES, MODEL, Attempt, WrongBytesError, piece_bytes, pieces_of, slice_of

PIECES = ((1, LEAST_BYTES), (2, 5000), (3, 100))
CONTENT = b"".join(piece_bytes(piece) for piece in PIECES)


def test_contents_say_what_they_are() -> None:
    assert pieces_of(CONTENT) == PIECES
    assert pieces_of(b"") == ()


@pytest.mark.parametrize("at", [0, 10, 23, 24, 50, 5000, len(CONTENT) - 1])
def test_every_wrong_byte_is_noticed(at: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[at] ^= 4
    with pytest.raises(WrongBytesError):
        pieces_of(bytes(damaged))


@pytest.mark.parametrize("cut", [1, 30, 5000])
def test_a_part_is_not_a_whole(cut: int) -> None:
    with pytest.raises(WrongBytesError):
        pieces_of(CONTENT[:-cut])
    with pytest.raises(WrongBytesError):
        pieces_of(CONTENT[cut:])


def test_a_range_must_be_that_of_the_content() -> None:
    put = Call(Put("/a", PIECES), Done(1), 0, 1)
    right = Call(ReadRange("/a", 100, 200), slice_of(PIECES, 100, 200), 2, 3)
    wrong = Call(ReadRange("/a", 100, 200), slice_of(PIECES, 101, 201), 2, 3)
    assert check([put, right], MODEL).linearizable
    assert not check([put, wrong], MODEL).linearizable


def test_a_lost_file_breaks_the_history_and_an_unknown_one_does_not() -> None:
    gone = Call(Read("/a"), MISSING, 2, 3)
    assert not check([Call(Put("/a", PIECES), Done(1), 0, 1), gone], MODEL).linearizable
    assert check([Call(Put("/a", PIECES), UNKNOWN, 0, 1), gone], MODEL).linearizable


def test_the_figures_find_their_place_in_the_page(tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{PAGE_BEGIN}\nfigures of before\n{PAGE_END}\nafter\n")
    figures = Figures(1, 2, converged_s=1.0)
    figures.periods = [Period("namenode killed", 10, 20)]
    figures.attempts = [
        Attempt("read", 9, 11, True),
        Attempt("write", 12, 19, False),
        Attempt("write", 18, 22, True),
        Attempt("read", 30, 31, True),
    ]
    figures.peaks = {"namenode": Peak(100 << 20, 20, 3)}
    figures.times = {"start": [1.0, 3.0, 2.0]}
    assert figures.good
    sections = [Section("The thrasher", figures.text())]
    write_page(str(page), page_text(sections))
    text = page.read_text()
    assert text.startswith(f"before\n{PAGE_BEGIN}\n")
    assert text.endswith(f"{PAGE_END}\nafter\n")
    assert "figures of before" not in text
    assert "| namenode killed | 1 | 10.0 s | 100.00% of 1 | 2.0 s | 50.00% of 2 | 7.0 s |" in text
    assert "| no fault |  |  | 100.00% of 1 | 1.0 s | – | – |" in text
    assert "| start | 3 | 2.0 s | 3.0 s |" in text
    write_page(str(page), page_text(sections))
    assert page.read_text() == text


@pytest.mark.parametrize(
    "harm",
    [
        {"lost": ["/a"]},
        {"wrong": ["/a"]},
        {"surprises": ["it ended by itself"]},
        {"bad_replicas": ["a chunk"]},
        {"not_linearizable": "no order"},
        {"converged_s": None},
    ],
)
def test_one_broken_promise_is_enough(harm: dict[str, object]) -> None:
    kept: dict[str, object] = {"converged_s": 1.0}
    assert Figures(1, 1, **kept).good  # type: ignore[arg-type]
    assert not Figures(1, 1, **(kept | harm)).good  # type: ignore[arg-type]
