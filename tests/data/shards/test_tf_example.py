import numpy as np
import pytest

from mask2former.data.shards.tf_example import decode_example, encode_example, take


def test_features_come_back() -> None:
    features = {
        "floats": np.array([0.1, -3e38, np.inf], np.float32),
        "integers": np.array([0, 1, 127, 128, -1, 2**63 - 1, -(2**63)], np.int64),
        "bytes": [b"", b"x" * 300, "ü".encode()],
        "no floats": np.zeros(0, np.float32),
        "no bytes": [],
        "näme": [b"1"],
    }
    content = encode_example(features)
    decoded = decode_example(memoryview(content))
    assert decoded.keys() == features.keys()
    np.testing.assert_array_equal(decoded["floats"], features["floats"])
    np.testing.assert_array_equal(decoded["integers"], features["integers"])
    assert [take(content, span) for span in decoded["bytes"]] == features["bytes"]
    assert len(decoded["no floats"]) == len(decoded["no bytes"]) == 0


def test_bytes_are_those_of_the_protocol() -> None:
    # features {1: {1: {1: "a", 2: {3: {1: packed [1, 300]}}}}}, written out by hand
    inner = bytes([0x0A, 3, 0x01, 0xAC, 0x02])
    feature = bytes([0x1A, len(inner)]) + inner
    entry = bytes([0x0A, 1]) + b"a" + bytes([0x12, len(feature)]) + feature
    features = bytes([0x0A, len(entry)]) + entry
    expected = bytes([0x0A, len(features)]) + features
    assert encode_example({"a": np.array([1, 300], np.int64)}) == expected


def test_numbers_that_are_not_packed_are_read() -> None:
    # int64_list {value: 1, value: 300}, float_list {value: 1.0}
    integers = bytes([0x08, 0x01, 0x08, 0xAC, 0x02])
    floats = bytes([0x0D, 0, 0, 0x80, 0x3F])
    for kind, values, expected in ((0x1A, integers, [1, 300]), (0x12, floats, [1.0])):
        feature = bytes([kind, len(values)]) + values
        entry = bytes([0x0A, 1]) + b"a" + bytes([0x12, len(feature)]) + feature
        features = bytes([0x0A, len(entry)]) + entry
        decoded = decode_example(bytes([0x0A, len(features)]) + features)
        assert list(decoded["a"]) == expected


@pytest.mark.parametrize(
    "content", [b"\x0a\x7fabc", b"\x0b", b"\xff" * 20, b"\x0a\x04\x0a\x02\x0a\x09"]
)
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        decode_example(content)
