"""What may happen to a folder of shards, and how it is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.formats import tfrecord, webdataset
from mask2former.data.formats.format import Format, Reading
from mask2former.data.shards.index import Kind
from mask2former.data.shards.pack import pack
from mask2former.data.shards.plan import make_plan
from mask2former.data.shards.verify import verify

FORMATS: dict[Kind, Format] = {"webdataset": webdataset.FORMAT, "tfrecord": tfrecord.FORMAT}
Packed = Callable[[Kind], Path]

both_kinds = pytest.mark.parametrize("kind", ["webdataset", "tfrecord"])


@pytest.fixture
def packed(
    tmp_path: Path, make: Callable[..., Dataset], objects: Instances
) -> Callable[[Kind], Path]:
    """Packs four images into three shards."""

    def pack_kind(kind: Kind) -> Path:
        datasets = {"train": make(*[objects] * 4)}
        pack(datasets, make_plan(datasets, kind, num_shards=3), tmp_path / kind)
        return tmp_path / kind

    return pack_kind


def open_shards(folder: Path, kind: Kind) -> Dataset:
    found = FORMATS[kind].find(folder)
    assert found is not None
    return FORMATS[kind].read(folder, "train", found, Reading())


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("train-*"))


@both_kinds
def test_a_cut_shard_is_found(packed: Packed, kind: Kind) -> None:
    folder = packed(kind)
    path = shards_of(folder)[1]
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ValueError, match=f"{path.name} has .* bytes and the index .* is cut off"):
        open_shards(folder, kind)
    (folder / "index.json").unlink()
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=rf"{path.name}(?s:.*)restore it or write it again"):
        open_shards(folder, kind)


def test_a_tar_file_cut_between_two_members_is_found(packed: Packed) -> None:
    folder = packed("webdataset")
    (folder / "index.json").unlink()
    path = shards_of(folder)[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content.rstrip(b"\0")) // 512 * 512 + 512])
    with pytest.raises(ValueError, match="ends inside the end mark"):
        open_shards(folder, "webdataset")


@both_kinds
def test_a_missing_shard_is_named(packed: Packed, kind: Kind) -> None:
    folder = packed(kind)
    shards_of(folder)[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 shards of split train.*00002"):
        open_shards(folder, kind)
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match="holds 2 of 3 shards, the others are not written yet"):
        open_shards(folder, kind)
    shutil.rmtree(folder / "index")
    with pytest.raises(ValueError, match=r"of split train in .* hold .* of its 4 images"):
        open_shards(folder, kind)


@both_kinds
def test_shards_of_two_packings_in_one_folder_are_told(
    packed: Packed, kind: Kind, make: Callable[..., Dataset], tmp_path: Path
) -> None:
    folder = packed(kind)
    datasets = {"train": make(Instances(9, 13, ()))}
    pack(datasets, make_plan(datasets, kind, num_shards=1), tmp_path / "other")
    path = shards_of(tmp_path / "other")[0]
    stranger = path.with_name(
        path.name.replace("0-of-00001", "9-of-00003").replace("0.tar", "9.tar")
    )
    shutil.copy(path, folder / stranger.name)
    with pytest.raises(ValueError, match=f"holds {stranger.name}, which index.json does not list"):
        open_shards(folder, kind)
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=f"{stranger.name} is of another data set than"):
        open_shards(folder, kind)


@both_kinds
def test_damaged_indexes_are_told_and_dispensable(packed: Packed, kind: Kind) -> None:
    folder = packed(kind)
    path = folder / "index.json"
    content = json.loads(path.read_text())
    for changes, message in (
        ({"version": 2}, "is of version 2 of our shards and this program reads version 1"),
        ({"classes": {"names": ["x"]}}, "does not describe its data set"),
        ({"splits": {"train": {"shards": [{}]}}}, "has damaged splits"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(ValueError, match=message):
            open_shards(folder, kind)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        open_shards(folder, kind)
    path.write_text(json.dumps(content))
    rows = folder / "index" / f"{shards_of(folder)[0].name}.json"
    rows.rename(rows.with_suffix(".away"))
    with pytest.raises(FileNotFoundError, match=r"which says where the images of train-.* lie"):
        open_shards(folder, kind)
    rows.write_text('{"shard": {}}')
    with pytest.raises(ValueError, match="is damaged"):
        open_shards(folder, kind)
    path.unlink()
    assert len(open_shards(folder, kind)) == 4


@both_kinds
def test_hashes_find_what_sizes_do_not(packed: Packed, kind: Kind) -> None:
    folder = packed(kind)
    assert verify(folder) == []
    path = shards_of(folder)[1]
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    shards_of(folder)[2].unlink()
    faults = verify(folder)
    assert [fault.split("; ")[0] for fault in faults] == [
        f"{path} has changed",
        f"{folder / path.name.replace('0001', '0002')} is missing",
    ]
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=r"has no index\.json"):
        verify(folder)


@both_kinds
def test_looking_at_a_folder_with_a_damaged_index_raises_nothing(
    packed: Packed, kind: Kind, tmp_path: Path
) -> None:
    folder = packed(kind)
    (folder / "index.json").write_text("{")
    assert FORMATS[kind].find(folder) is not None
    (tmp_path / "bare" / "index").mkdir(parents=True)
    (tmp_path / "bare" / "index.json").write_text("{")
    assert FORMATS[kind].find(tmp_path / "bare") is None


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "VOCtrainval_11-May-2012.tar", "w") as tar:
        tar.add(__file__, "VOCdevkit/VOC2012/Annotations/2007_000027.xml")
        tar.add(__file__, "VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg")
    (tmp_path / "index.json").write_text('{"some": "web page"}')
    (tmp_path / "train-00000-of-00001.tfrecord").write_bytes(b"no records at all")
    for data_format in FORMATS.values():
        assert data_format.find(tmp_path) is None
