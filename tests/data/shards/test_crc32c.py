import numpy as np
import pytest

from mask2former.data.shards.crc32c import SHORT, crc32c


def bit_by_bit(content: bytes) -> int:
    """The definition: division by the polynomial, a bit at a time."""
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_known_values() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("length", [0, 1, 15, SHORT - 1, SHORT, SHORT + 1, 100, 255, 256, 4099])
def test_lookup_equals_the_definition(length: int) -> None:
    content = np.random.default_rng(length).bytes(length)
    assert crc32c(content) == bit_by_bit(content)
