import pytest

from mask2former.fractions import check_fractions, format_fractions, parse_fractions


@pytest.mark.parametrize(
    ("text", "fractions"),
    [("0.9/0.1", (0.9, 0.1)), ("80/20", (0.8, 0.2)), ("0.7/0.2/0.1", (0.7, 0.2, 0.1))],
)
def test_fractions_are_written_with_slashes_as_shares_or_percents(text, fractions) -> None:
    assert parse_fractions(text) == fractions
    assert parse_fractions(format_fractions(fractions)) == fractions


@pytest.mark.parametrize("text", ["0.9", "0.9/0.2", "1/0", "0.5/0.2/0.2/0.1", "1.1/-0.1"])
def test_numbers_that_are_no_shares_of_a_whole_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^split {text}: the shares .* sum to 1; write for ex"):
        parse_fractions(text)


def test_nothing_is_no_fractions() -> None:
    with pytest.raises(ValueError, match=r"^split : the shares"):
        check_fractions([])


def test_words_are_no_fractions() -> None:
    with pytest.raises(ValueError, match=r"^split val: not numbers with a / between them; write"):
        parse_fractions("val")
