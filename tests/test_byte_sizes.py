"""Sizes of memory, read and written."""

import pytest

from mask2former.byte_sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6GiB", 6 * 2**30),
        ("6GB", 6 * 10**9),
        (" 6000 MiB ", 6000 * 2**20),
        ("1.5gib", 3 * 2**29),
        ("24g", 24 * 2**30),
        ("512M", 2**29),
        ("6442450945", 6442450945),
        ("100B", 100),
    ],
)
def test_sizes_are_read_with_any_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "6 parsecs", "-1GiB", "0", "0.1B", "1e9", "6,5GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size of memory; write for example 6GiB"):
        parse_size(text)


def test_sizes_are_written_in_the_unit_that_fits() -> None:
    assert format_size(2**29) == "512 MiB"
    assert format_size(3 * 2**29) == "1.50 GiB"
