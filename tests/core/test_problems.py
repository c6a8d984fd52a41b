"""Many faults in one error."""

import pytest

from jclip_adapter.core.errors import DataError, SubmissionError
from jclip_adapter.core.problems import SHOWN, Problems, fits_a_line


def raised(problems, hint=""):
    with pytest.raises(problems.error) as caught:
        problems.raise_if_any(hint)
    return caught.value


def test_no_fault_no_error():
    problems = Problems("x")
    problems.raise_if_any("hint")
    assert not problems


def test_a_single_fault_is_the_message_itself():
    problems = Problems("list.txt", SubmissionError)
    problems.add("blank lines", "line 3 is blank", "Take it out.")
    error = raised(problems, "General hint.")
    assert str(error) == "list.txt: line 3 is blank. Take it out."
    assert error.details == ["blank lines: line 3 is blank"]


def test_kinds_are_counted_and_long_lists_cut():
    problems = Problems("list.txt")
    for number in range(1500):
        problems.add("bad lines", f"line {number}", "Mend them.")
    assert str(raised(problems)) == "list.txt: 1,500 problems: bad lines (1,500). Mend them."
    problems.add("gaps", "no 7")
    error = raised(problems, "Mend all.")
    assert str(error) == "list.txt: 1,501 problems: bad lines (1,500), gaps (1). Mend all."
    assert len(error.details) == SHOWN + 2
    assert error.details[SHOWN] == "bad lines: … and 1,490 more"


def test_odd_names_do_not_break_the_line():
    problems = Problems("a\nb.txt")
    problems.add("bad lines", "x\r\u2028\udcff熊 is bad")
    error = raised(problems)
    assert str(error) == "a\\nb.txt: x\\r\\u2028\\udcff熊 is bad."
    assert error.details == ["bad lines: x\\r\\u2028\\udcff熊 is bad"]


def test_errors_without_details_have_an_empty_list():
    assert DataError("x").details == []


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\tb", "a\u2028b", "a\x85b", "a\udcffb", "\x00"])
def test_names_that_no_line_can_hold(name):
    assert not fits_a_line(name)


@pytest.mark.parametrize("name", ["a b.jpg", "熊.jpg", "é", ""])
def test_names_that_a_line_can_hold(name):
    assert fits_a_line(name)
