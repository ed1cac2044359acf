"""Maps as text, read back."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mask2former.evaluation.kept.as_json import decode_runs, encode_runs

LIMITS = [0, 1, 255, 256, 65535, 65536, 2**24 - 1, 2**32 - 1, 2**32, 2**63 - 1, -1, -(2**63)]


@given(
    st.lists(st.tuples(st.sampled_from(LIMITS), st.integers(1, 300)), max_size=20),
    st.integers(1, 7),
)
def test_every_map_is_read_back_as_it_was(runs: list[tuple[int, int]], width: int) -> None:
    flat = np.repeat([value for value, _ in runs], [length for _, length in runs]).astype(np.int64)
    ids = flat[: len(flat) // width * width].reshape(-1, width)
    decoded = decode_runs(encode_runs(ids), *ids.shape)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16])
def test_maps_of_any_type_and_order_in_memory_are_taken(dtype: type) -> None:
    ids = np.random.default_rng(0).integers(0, 100, (13, 9)).astype(dtype)
    for layout in (ids, np.asfortranarray(ids), ids[::2, ::3], ids.T):
        np.testing.assert_array_equal(decode_runs(encode_runs(layout), *layout.shape), layout)


def test_one_value_takes_a_few_bytes_whatever_the_size() -> None:
    # one run: a byte for the value, 4 for the length; deflate adds at most 11, base 64 a third
    assert len(encode_runs(np.full((2000, 3000), 7))) <= 4 + 4 * 6


def test_damaged_text_is_refused() -> None:
    text = encode_runs(np.arange(12).reshape(3, 4))
    for damaged in ("", "u9u1" + text[4:], text[:-5], text[:6] + "*" + text[7:], "u1u1AAAA"):
        with pytest.raises(ValueError, match="damaged"):
            decode_runs(damaged, 3, 4)


def test_runs_that_do_not_cover_the_map_are_refused() -> None:
    text = encode_runs(np.arange(12).reshape(3, 4))
    with pytest.raises(ValueError, match="cover 12 pixels, not 4 x 4 = 16"):
        decode_runs(text, 4, 4)
    odd = "u1u1" + base64.b64encode(zlib.compress(b"abc")).decode()
    with pytest.raises(ValueError, match="damaged or of another map"):
        decode_runs(odd, 3, 4)
    lengths = np.array([13, -1], "<i8").tobytes()
    negative = "u1i8" + base64.b64encode(zlib.compress(b"ab" + lengths)).decode()
    with pytest.raises(ValueError, match="damaged or of another map"):
        decode_runs(negative, 3, 4)
