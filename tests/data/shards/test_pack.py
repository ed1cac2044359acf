"""What goes into shards comes out of them, whatever happens on the way."""

import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import DataLoader

from mask2former.data.annotations import AsRead, Instances, Layered, SegmentLabel, SegmentMap
from mask2former.data.batching import collate
from mask2former.data.dataset import Dataset
from mask2former.data.formats import coco_instance, coco_panoptic, tfrecord, webdataset
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.geometry import large_scale_jitter
from mask2former.data.sampling import TrainingBatches
from mask2former.data.shards import pack as packing
from mask2former.data.shards.index import Kind
from mask2former.data.shards.pack import pack
from mask2former.data.shards.plan import make_plan
from mask2former.data.shards.verify import verify
from mask2former.data.synthetic import write_synthetic
from mask2former.data.training_data import TrainingData
from mask2former.tasks import Task

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)
FORMATS: dict[Kind, Format] = {"webdataset": webdataset.FORMAT, "tfrecord": tfrecord.FORMAT}
KINDS: tuple[Kind, ...] = ("webdataset", "tfrecord")
PANOPTIC: tuple[Task, ...] = ("panoptic", "semantic", "instance")
Make = Callable[..., Dataset]
Compare = Callable[[AsRead, AsRead], None]

both_kinds = pytest.mark.parametrize("kind", KINDS)


def find(folder: Path, kind: Kind) -> Found:
    found = FORMATS[kind].find(folder)
    assert found is not None
    return found


def open_shards(folder: Path, kind: Kind, split: str = "train") -> Dataset:
    return FORMATS[kind].read(folder, split, find(folder, kind), Reading())


def pack_one(dataset: Dataset, folder: Path, kind: Kind, num_shards: int = 2) -> None:
    datasets = {dataset.split: dataset}
    pack(datasets, make_plan(datasets, kind, num_shards=num_shards), folder)


def open_coco(folder: Path, data_format: Format = coco_panoptic.FORMAT) -> dict[str, Dataset]:
    found = data_format.find(folder)
    assert found is not None
    return {name: data_format.read(folder, name, found, Reading()) for name in found.splits}


@both_kinds
@pytest.mark.parametrize("has_index", [True, False])
def test_everything_comes_back(
    tmp_path: Path,
    kind: Kind,
    has_index: bool,
    make: Make,
    objects: Instances,
    assert_equal: Compare,
) -> None:
    loose = make(objects, Instances(9, 13, ()), objects)
    out = tmp_path / "out"
    pack_one(loose, out, kind)
    if not has_index:
        (out / "index.json").unlink()
    assert find(out, kind).tasks == loose.tasks
    shards = open_shards(out, kind)
    assert (shards.classes, shards.tasks, shards.notes) == (loose.classes, loose.tasks, loose.notes)
    assert (shards.format, len(shards)) == (kind, 3)
    for ours, theirs in zip(shards.records, loose.records, strict=True):
        assert ours.image.read_bytes() == theirs.image.read_bytes()
        assert (ours.image_id, ours.image.name) == (theirs.image_id, theirs.image.name)
        assert (ours.height, ours.width, ours.num_objects) == (9, 13, theirs.num_objects)
        assert_equal(shards.decode(ours), loose.decode(theirs))


@both_kinds
@pytest.mark.parametrize("largest", [255, 256, 65_535, 65_536, 2**24 - 1])
def test_id_maps_of_any_depth_come_back(
    tmp_path: Path,
    kind: Kind,
    largest: int,
    make: Make,
    id_map: Callable[[int], SegmentMap],
    assert_equal: Compare,
) -> None:
    loose = make(id_map(largest), tasks=PANOPTIC)
    pack_one(loose, tmp_path / "out", kind)
    assert_equal(open_shards(tmp_path / "out", kind).annotations(0), loose.annotations(0))


@both_kinds
def test_layers_come_back(
    tmp_path: Path,
    kind: Kind,
    make: Make,
    objects: Instances,
    id_map: Callable[[int], SegmentMap],
    assert_equal: Compare,
) -> None:
    semantic = SegmentMap(np.eye(9, 13, dtype=np.int32), (SegmentLabel(1, 0),))
    loose = make(Layered(objects, semantic), Layered(id_map(300), semantic), tasks=PANOPTIC)
    pack_one(loose, tmp_path / "out", kind)
    shards = open_shards(tmp_path / "out", kind)
    for i in range(2):
        assert_equal(shards.annotations(i), loose.annotations(i))


def test_ids_that_no_png_holds_are_refused(
    tmp_path: Path, make: Make, id_map: Callable[[int], SegmentMap]
) -> None:
    loose = make(id_map(2**24), tasks=PANOPTIC)
    with pytest.raises(ValueError, match="ids from 0 to 16777216, which a PNG cannot hold"):
        pack_one(loose, tmp_path / "out", "webdataset")


@pytest.fixture
def image(make: Make, objects: Instances) -> Path:
    """The only image of `make(objects)`."""
    path = make(objects).records[0].image
    assert isinstance(path, Path)
    return path


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 JFIF \xff\xd9"])
def test_what_is_no_image_is_named(
    tmp_path: Path, make: Make, objects: Instances, image: Path, content: bytes
) -> None:
    image.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*Bild 0\.ü\.png.*replace it or take it"):
        pack_one(make(objects), tmp_path / "out", "webdataset")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_cut_images_and_no_others_are_refused(
    tmp_path: Path, make: Make, objects: Instances, image: Path, kind: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(noise).save(image, kind)
    content = image.read_bytes()
    pack_one(make(objects), tmp_path / "whole", "webdataset")
    # cameras write films and zeros behind the picture
    image.write_bytes(content + b"\0\0\0")
    pack_one(make(objects), tmp_path / "longer", "webdataset")
    image.write_bytes(content[:-60])
    with pytest.raises(ValueError, match=r"cannot read .*Bild 0\.ü\.png"):
        pack_one(make(objects), tmp_path / "cut", "webdataset")
    assert not list((tmp_path / "cut").glob("*.tar"))


def test_an_image_of_another_size_than_its_annotations_is_refused(
    tmp_path: Path, make: Make, objects: Instances, image: Path
) -> None:
    Image.new("RGB", (9, 13)).save(image)
    with pytest.raises(
        ValueError, match=r"has size \(h, w\) = \(13, 9\) but its annotations .* 13"
    ):
        pack_one(make(objects), tmp_path / "out", "webdataset")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    # annotated as stored, before the tag turns it
    Image.new("RGB", (13, 9)).save(image, "JPEG", exif=exif)
    pack_one(make(objects), tmp_path / "turned", "webdataset")


def test_a_missing_image_is_named_as_elsewhere(
    tmp_path: Path, make: Make, objects: Instances, image: Path
) -> None:
    loose = make(objects)
    image.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no image file at .*Bild 0\.ü\.png; restore it or"
    ):
        pack_one(loose, tmp_path / "out", "webdataset")


@both_kinds
def test_frames_of_a_video_lie_in_one_shard_in_order(
    tmp_path: Path, kind: Kind, make: Make, objects: Instances
) -> None:
    places = (("b/ü", 1), ("a.1", 0), ("b/ü", 0), ("a.1", 1), ("c", 0))
    loose = make(*[objects] * 5, video=places)
    out = tmp_path / "out"
    pack_one(loose, out, kind, num_shards=9)  # as many as there are videos
    shards = open_shards(out, kind)
    assert tuple((r.group, r.frame) for r in shards.records) == places
    files = [r.image.path.name for r in shards.records]
    assert files[0] == files[2] != files[1] == files[3] != files[4]
    assert len(set(files)) == 3
    offsets = [r.image.offset for r in shards.records]
    assert offsets[2] < offsets[0]
    assert offsets[1] < offsets[3]


def test_tar_files_follow_the_conventions_of_webdataset(
    tmp_path: Path, make: Make, id_map: Callable[[int], SegmentMap]
) -> None:
    pack_one(make(id_map(3), id_map(4), tasks=PANOPTIC), tmp_path / "out", "webdataset", 1)
    with tarfile.open(tmp_path / "out/train-000000.tar", "r:") as tar:
        names = tar.getnames()
    assert names[0] == "__dataset__"
    # the dots of the image id v1.2/1 would start the suffix
    assert names[1:] == [
        *("12.png", "12.json", "12.seg.png"),
        *("v1%2E2/1.png", "v1%2E2/1.json", "v1%2E2/1.seg.png"),
    ]


@pytest.mark.parity
# webdataset leaves closing its files to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_them(tmp_path: Path, make: Make, objects: Instances) -> None:
    webdataset_package = pytest.importorskip("webdataset")
    loose = make(objects, Instances(9, 13, ()))
    pack_one(loose, tmp_path / "out", "webdataset", 1)
    url = str(tmp_path / "out/train-000000.tar")
    samples = list(webdataset_package.WebDataset(url, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == ["12", "v1%2E2/1"]
    for sample, record in zip(samples, loose.records, strict=True):
        assert sample["png"] == record.image.read_bytes()
        assert json.loads(sample["json"])["image_id"] == record.image_id


@both_kinds
def test_a_stopped_run_goes_on(
    tmp_path: Path, kind: Kind, make: Make, objects: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = make(*[objects] * 5)
    plan = make_plan({"train": loose}, kind, num_shards=5)
    pack({"train": loose}, plan, tmp_path / "at once")
    write, written = packing.write_shard, []

    def write_two(*arguments: object) -> str:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*arguments))
        return written[-1]

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", write_two)
        with pytest.raises(KeyboardInterrupt):
            pack({"train": loose}, plan, out)
    with pytest.raises(ValueError, match=r"holds 2 of 5 shards.*run the same"):
        open_shards(out, kind)
    # what a killed process leaves behind
    (out / f".{plan.splits['train'].names[2]}.unfinished").write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name in written}
    pack({"train": loose}, make_plan({"train": loose}, kind, num_shards=5), out)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    expected = {p.name: p.read_bytes() for p in (tmp_path / "at once").rglob("*") if p.is_file()}
    assert {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()} == expected


@both_kinds
def test_a_shard_that_was_cut_off_since_is_written_again(
    tmp_path: Path, kind: Kind, make: Make, objects: Instances
) -> None:
    loose = make(*[objects] * 4)
    out = tmp_path / "out"
    pack_one(loose, out, kind, num_shards=4)
    paths = sorted(out.glob("train-*"))
    contents = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].write_bytes(contents[1][:-512])
    (out / "index" / f"{paths[2].name}.json").write_text('{"shard": {}}')
    pack_one(loose, out, kind, num_shards=4)
    assert [path.read_bytes() for path in paths] == contents
    assert verify(out) == []
    kept = [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)]
    assert kept == [True, False, False, True]


def test_a_link_to_a_folder_that_is_not_there_is_followed(
    tmp_path: Path, make: Make, objects: Instances
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place" / "shards")
    pack_one(make(objects), tmp_path / "link", "webdataset")
    assert (tmp_path / "place" / "shards" / "index.json").is_file()


def test_what_fails_in_another_process_leaves_nothing_half_written(
    tmp_path: Path, make: Make, objects: Instances
) -> None:
    loose = make(*[objects] * 4)
    last = loose.records[3].image
    assert isinstance(last, Path)
    last.write_bytes(b"")
    datasets = {"train": loose}
    plan = make_plan(datasets, "webdataset", num_shards=2)
    with pytest.raises(ValueError, match=r"cannot read .*Bild 3\.ü\.png"):
        pack(datasets, plan, tmp_path / "out", workers=2)
    assert not list((tmp_path / "out").glob(".*"))
    assert not (tmp_path / "out" / "index.json").exists()


def test_another_data_set_or_other_options_are_refused(
    tmp_path: Path, make: Make, objects: Instances
) -> None:
    loose = make(*[objects] * 4)
    out = tmp_path / "out"
    pack_one(loose, out, "webdataset", num_shards=2)
    pack_one(loose, out, "webdataset", num_shards=2)  # nothing to do
    with pytest.raises(ValueError, match="begun with 2 shards of other sizes in split train"):
        pack_one(loose, out, "webdataset", num_shards=3)
    with pytest.raises(ValueError, match="begun with the format webdataset, and this is tfrecord"):
        pack_one(loose, out, "tfrecord", num_shards=2)
    with pytest.raises(ValueError, match="in split train: the data set has changed since"):
        pack_one(make(*[Instances(9, 13, ())] * 4), out, "webdataset", num_shards=2)
    image = loose.records[1].image
    assert isinstance(image, Path)
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="in split train: the data set has changed since"):
        pack_one(loose, out, "webdataset", num_shards=2)


def test_a_folder_that_holds_something_else_is_left_alone(
    tmp_path: Path, make: Make, objects: Instances
) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(ValueError, match="holds no shards that were begun; give a new folder"):
        pack_one(make(objects), tmp_path, "webdataset")


def test_several_processes_write_the_same_bytes(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "coco", train_images=5, val_images=2, size=(32, 48), seed=0)
    datasets = open_coco(tmp_path / "coco")
    plan = make_plan(datasets, "webdataset", shard_bytes=8000)
    assert len(plan.splits["train"].names) > 1
    pack(datasets, plan, tmp_path / "one")
    shown: list[str] = []

    def progress(names, count):
        for name in names:
            shown.append(name)
            yield name
        assert len(shown) == count

    pack(datasets, plan, tmp_path / "two", workers=2, progress=progress)
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    )
    assert one == two
    assert set(shown) == {*plan.splits["train"].names, *plan.splits["val"].names}


@both_kinds
def test_training_samples_are_the_same_bit_for_bit(tmp_path: Path, kind: Kind) -> None:
    write_synthetic(tmp_path / "coco", train_images=5, val_images=2, size=(32, 48), seed=0)
    datasets = open_coco(tmp_path / "coco")
    pack(datasets, make_plan(datasets, kind, num_shards=2), tmp_path / "out")
    jitter = partial(
        large_scale_jitter, crop=(24, 32), min_scale=0.5, max_scale=2.0, flip_probability=0.5
    )

    def batches(dataset: Dataset, workers: int) -> list:
        data = TrainingData(
            dataset, "panoptic", draw_geometry=jitter, color_jitter=True, keep_emptied=True
        )
        # one of two ranks, as a run that goes on after two steps
        order = TrainingBatches(len(data), batch_size=2, seed=3, rank=1, world_size=2, start=2)
        context = "fork" if workers else None
        loader = DataLoader(
            data,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context=context,
        )
        return [batch for batch, _ in zip(loader, range(4), strict=False)]

    loose = batches(datasets["train"], 0)
    for workers in (0, 2):
        for ours, theirs in zip(
            batches(open_shards(tmp_path / "out", kind), workers), loose, strict=True
        ):
            assert ours.image_ids == theirs.image_ids
            assert all(map(torch.equal, ours.images, theirs.images))
            for target, expected in zip(ours.targets, theirs.targets, strict=True):
                assert torch.equal(target.masks, expected.masks)
                assert torch.equal(target.labels, expected.labels)


@needs_samples
@pytest.mark.parity
@both_kinds
@pytest.mark.parametrize(
    ("name", "data_format"),
    [("coco_instances", coco_instance.FORMAT), ("coco_panoptic", coco_panoptic.FORMAT)],
)
def test_real_coco_comes_back(
    tmp_path: Path, kind: Kind, name: str, data_format: Format, assert_equal: Compare
) -> None:
    datasets = open_coco(SAMPLES / name, data_format)
    pack(datasets, make_plan(datasets, kind, num_shards=3), tmp_path / "out")
    assert verify(tmp_path / "out") == []
    for split, loose in datasets.items():
        shards = open_shards(tmp_path / "out", kind, split)
        assert shards.classes == loose.classes
        for ours, theirs in zip(shards.records, loose.records, strict=True):
            assert (ours.image_id, ours.num_objects) == (theirs.image_id, theirs.num_objects)
            assert_equal(shards.decode(ours), loose.decode(theirs))
