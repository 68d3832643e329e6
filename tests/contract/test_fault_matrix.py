"""Every fault of the matrix is made to happen by some test, and `docs/reliability.md` says by which."""

import re

from fixtures.matrix import NOT_APPLICABLE, PAGE, ROWS, TESTS, cited, page_matrix


def test_every_fault_is_made_to_happen_by_some_test() -> None:
    missing = sorted(set(ROWS) - set(cited()))
    assert not missing, f"no test names {', '.join(f'F{number}' for number in missing)}"


def test_no_test_names_a_fault_that_is_not_in_the_matrix() -> None:
    unknown = {number: tests for number, tests in cited().items() if number not in ROWS}
    assert not unknown


def test_a_fault_applies_or_has_a_reason_why_not() -> None:
    assert not set(ROWS) & set(NOT_APPLICABLE)
    assert set(ROWS) | set(NOT_APPLICABLE) == set(range(1, max(ROWS) + 1))


def test_the_page_names_tests_that_make_each_fault_happen() -> None:
    tests = cited()
    rows = re.findall(r"^\| F(\d+) \| (.+?) \| (.+) \|$", page_matrix(PAGE.read_text()), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == sorted(ROWS | NOT_APPLICABLE)
    for number, title, files in rows:
        if int(number) in NOT_APPLICABLE:
            continue
        assert title == ROWS[int(number)]
        named = re.findall(r"`([^`]+)`", files)
        assert named, f"F{number} has no test on the page; write it anew with `python -m fixtures.matrix`"
        for file in named:
            assert (TESTS / file).exists()
            assert any(test.startswith(f"{file}::") for test in tests[int(number)]), f"{file} does not name F{number}"
