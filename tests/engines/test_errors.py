"""What errors say, whoever wrote the names and values in them."""

import pytest

from dtfsal.engines.errors import DtfsalError, printable


def test_an_error_does_not_steer_the_terminal():
    assert str(DtfsalError("a\x1b]0;title\x07b \udcff é\u202e")) == "a\\x1b]0;title\\x07b \\udcff é\\u202e"


def test_an_error_is_of_bounded_length():
    text = str(DtfsalError("begins " + "x" * 10**6 + " ends"))
    assert len(text) < 1600
    assert (text[:7], text[-5:]) == ("begins ", " ends")


@pytest.mark.parametrize("text", ["plain", "two\nlines", "é 漢 →", ""])
def test_text_for_people_stays_as_it_is(text):
    assert printable(text) == text
