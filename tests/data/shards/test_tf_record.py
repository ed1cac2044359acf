from pathlib import Path

import pytest

from mask2former.data.shards.tf_record import frame, is_record_file, records_of

FIXTURE = Path(__file__).parents[1] / "fixtures/tfrecord/objects/train-00000-of-00001.tfrecord"


def read(path: Path, *, check: bool = True) -> list[bytes]:
    return [bytes(record) for _, record in records_of(path, check=check)]


def test_records_come_back_and_their_offsets_are_right(tmp_path: Path) -> None:
    contents = [b"first", b"", b"x" * 1000]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(map(frame, contents)))
    assert read(path) == contents
    whole = path.read_bytes()
    for (offset, _), content in zip(records_of(path), contents, strict=True):
        assert whole[offset : offset + len(content)] == content
    assert is_record_file(path)


def test_what_tensorflow_wrote_has_its_checksums_and_is_written_the_same() -> None:
    contents = read(FIXTURE)
    assert b"".join(map(frame, contents)) == FIXTURE.read_bytes()


@pytest.mark.parametrize("left", [1, 11, 14, 20])
def test_a_cut_is_found(tmp_path: Path, left: int) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(b"12345678")[:left])
    with pytest.raises(ValueError, match=r"a\.tfrecord ends inside the record at byte 0"):
        read(path, check=False)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    content = bytearray(frame(b"12345678"))
    content[13] ^= 1  # of the bytes themselves
    path.write_bytes(content)
    assert len(read(path, check=False)) == 1
    with pytest.raises(ValueError, match="the record at byte 0 does not have its checksum"):
        read(path)
    content[2] ^= 1  # of the length
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the length of the record at byte 0"):
        read(path, check=False)


def test_compressed_files_are_named(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "a.tfrecord"
    path.write_bytes(gzip.compress(frame(b"12345678")))
    with pytest.raises(ValueError, match="compressed as a whole"):
        read(path)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.touch()
    assert read(path) == []
    assert not is_record_file(path)
