"""A whole evaluation, with a network that knows the ground truth."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mask2former.data.annotations import Instance, Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.evaluation.evaluate import evaluate
from mask2former.evaluation.loading import load_ahead
from mask2former.evaluation.scores import Scores, match_classes, renumber
from mask2former.evaluation.stopwatch import Stopwatch, speed
from mask2former.evaluation.truth import scored_images
from mask2former.inference.segmenter import Segmenter
from mask2former.masks.rle import encode_mask
from mask2former.types import Classes, InstanceResult, MaskPrediction, Segment

CLASSES = Classes(("ball", "grass", "sky", "pond"), (7, 3, 5, 9), (True, False, False, False))
THINGS = Classes(("ball",), (7,), (True,))
SIZES = ((64, 96), (96, 64), (32, 64))


class Oracle(nn.Module):
    """Finds the ball in the upper left quarter, and what is left or right of the middle."""

    def __init__(self, classes_of_query=(0, 1, 2), num_classes=4) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1))
        self.class_logits = torch.full((3, num_classes + 1), -9.0)
        self.class_logits[torch.arange(3), torch.tensor(classes_of_query)] = 9.0

    def forward(self, images):
        h, w = images.shape[-2] // 4, images.shape[-1] // 4
        masks = torch.full((3, h, w), -9.0)
        masks[0, : h // 2, : w // 2] = 9.0
        masks[1, h // 2 :, : w // 2] = 9.0
        masks[2, :, w // 2 :] = 9.0
        return MaskPrediction(self.class_logits[None, None], torch.eye(3)[None, None], masks[None])


def truth_ids(height, width):
    ids = np.full((height, width), 30, np.int32)
    ids[: height // 2, : width // 2] = 10
    ids[height // 2 :, : width // 2] = 20
    ids[-1, -1] = 99  # not listed, so not scored
    return ids


def decode_segments(record):
    labels = (SegmentLabel(10, 0), SegmentLabel(20, 1), SegmentLabel(30, 2))
    return SegmentMap(truth_ids(record.height, record.width), labels)


def decode_balls(record):
    mask = truth_ids(record.height, record.width) == 10
    ball = Instance(0, encode_mask(mask), False, float(mask.sum()))
    return Instances(record.height, record.width, (ball,))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    generator = np.random.default_rng(0)
    records = []
    for i, (height, width) in enumerate(SIZES):
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        records.append(Record(100 + i, path, None, height, width))
    return records


def panoptic_dataset(records, classes=CLASSES):
    tasks = ("panoptic", "semantic", "instance")
    return Dataset("fake", Path("fakes"), "val", classes, tasks, records, decode_segments)


def instance_dataset(records, classes=THINGS):
    return Dataset("fake", Path("fakes"), "val", classes, ("instance",), records, decode_balls)


def segmenter(task="panoptic", classes=CLASSES, **oracle):
    model = Oracle(num_classes=len(classes), **oracle)
    # the test images are not padded at this size, so their halves are those of the network's input
    return Segmenter(model, classes, task=task, short_side=64, max_long_side=128, device="cpu")


def test_panoptic_scores_all_three_tasks_of_one_pass(records, monkeypatch) -> None:
    model = segmenter()
    passes = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda pixels: passes.append(1) or forward(pixels))
    result = evaluate(model, panoptic_dataset(records))
    assert (result.task, result.images, len(passes)) == ("panoptic", 3, 3)
    assert set(result.metrics) >= {"PQ", "SQ_th", "AP", "APs", "boxAP", "AR10", "mIoU", "pACC"}
    defined = {k: v for k, v in result.metrics.items() if not math.isnan(v)}
    # the resize leaves the pixel at the inner corner of the ball, of 512 at least, to nobody
    assert defined == pytest.approx(dict.fromkeys(defined, 100), abs=100 / 512)
    # the balls have 32 x 48, 48 x 32 and 16 x 32 pixels: two are medium, none is large
    assert set(result.metrics) - set(defined) == {"APl"}
    assert set(result.per_class["ball"]) == {
        "PQ", "SQ", "RQ", "AP", "AP50", "boxAP", "boundaryAP", "IoU", "ACC",
    }  # fmt: skip
    assert set(result.per_class["sky"]) == {"PQ", "SQ", "RQ", "IoU", "ACC"}
    assert math.isnan(result.per_class["pond"]["PQ"])


def test_mistakes_cost(records) -> None:
    mixed_up = evaluate(segmenter(classes_of_query=(0, 2, 1)), panoptic_dataset(records))
    # grass and sky are taken for each other; the ball is right
    assert mixed_up.metrics["PQ_st"] == 0
    assert mixed_up.metrics["RQ_th"] == 100
    assert mixed_up.per_class["grass"]["IoU"] == 0
    assert mixed_up.metrics["RQ"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("task", "expected", "absent"),
    [("semantic", "mIoU", "AP"), ("instance", "AP", "mIoU")],
)
def test_a_panoptic_model_can_be_scored_for_one_task(records, task, expected, absent) -> None:
    result = evaluate(segmenter(), panoptic_dataset(records), task)
    assert result.task == task
    assert result.metrics[expected] == pytest.approx(100)
    assert absent not in result.metrics


def test_things_are_numbered_anew_for_an_instance_data_set(records) -> None:
    # ball is class 2 of the model and class 0 of the data set
    classes = Classes(("sky", "grass", "ball"), (5, 3, 7), (False, False, True))
    model = segmenter(classes=classes, classes_of_query=(2, 1, 0))
    for dataset in (instance_dataset(records), panoptic_dataset(records)):
        result = evaluate(model, dataset, "instance")
        assert result.metrics["AP"] == pytest.approx(100)
        assert list(result.per_class) == ["ball"]


def test_models_of_one_task_are_scored(records) -> None:
    semantic = evaluate(segmenter("semantic"), panoptic_dataset(records))
    assert semantic.metrics["mIoU"] == pytest.approx(100)
    instance = evaluate(
        segmenter("instance", THINGS, classes_of_query=(0, 1, 1)), instance_dataset(records)
    )
    assert instance.metrics["AP"] == pytest.approx(100)


def test_undefined_metrics_are_null_in_json(records) -> None:
    result = evaluate(segmenter(), panoptic_dataset(records))
    assert math.isnan(result.per_class["pond"]["IoU"])
    plain = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert plain["per_class"]["pond"] == dict.fromkeys(("PQ", "SQ", "RQ", "IoU", "ACC"))
    assert plain["metrics"]["PQ"] == pytest.approx(result.metrics["PQ"])
    assert plain["images"] == 3


def test_speed_tells_what_the_time_went_to(records) -> None:
    speed = evaluate(segmenter(), panoptic_dataset(records)).speed
    shares = {name: value for name, value in speed.items() if name != "images_per_second"}
    assert set(shares) == {"loading", "model", "postprocess", "metric"}
    assert sum(shares.values()) == pytest.approx(1)
    assert speed["images_per_second"] > 0


def test_what_is_computed_of_all_images_is_not_time_of_an_image(records, monkeypatch) -> None:
    compute = Scores.compute
    monkeypatch.setattr(Scores, "compute", lambda scores: time.sleep(1) or compute(scores))
    speed = evaluate(segmenter(), panoptic_dataset(records)).speed
    seconds = len(records) / speed["images_per_second"]
    # that of three images of less than 100 x 100 pixels
    assert seconds * speed["metric"] < 1


def test_a_thing_that_the_model_has_as_stuff_is_told(records, caplog) -> None:
    classes = Classes(CLASSES.names, CLASSES.category_ids, (False, True, True, True))
    expected = "the model has 'ball' as stuff, so that it finds none of the objects"
    datasets = {"panoptic": panoptic_dataset(records), "instance": instance_dataset(records)}
    for task, dataset in datasets.items():
        caplog.clear()
        result = evaluate(segmenter(classes=classes), dataset, task)
        assert result.metrics["AP"] == 0
        assert [message for message in caplog.messages if message.startswith(expected)]
    caplog.clear()
    evaluate(segmenter(), panoptic_dataset(records))
    evaluate(segmenter(classes=classes), panoptic_dataset(records), "semantic")
    assert not caplog.messages


def test_objects_are_made_where_a_metric_asks_for_them(records) -> None:
    names = ("car", "road", "sky")
    classes = Classes(names, (26, 7, 23), (True, False, False))
    for format_, is_made in (("cityscapes", False), ("fake", True)):
        dataset = replace(panoptic_dataset(records, classes), format=format_)
        for task in ("panoptic", "instance"):
            images = scored_images(dataset, task)
            scores = Scores(images, images.classes)
            [(_, loaded)] = load_ahead(images, [0], scores.prepared, Stopwatch())
            assert ("objects" in vars(loaded.truth)) is is_made
            assert ("panoptic_map" in vars(loaded.truth)) is (task == "panoptic")


def clock_of(images: int, **seconds: float) -> Stopwatch:
    clock = Stopwatch()
    clock.seconds, clock.images = seconds, images
    return clock


def test_shares_are_of_the_measured_time() -> None:
    # 8 images in 4 seconds, 3 of them in the model
    assert speed([clock_of(8, model=3.0, metric=1.0)]) == {
        "images_per_second": 2.0, "model": 0.75, "metric": 0.25,
    }  # fmt: skip


def test_processes_are_as_fast_as_the_slowest_of_them() -> None:
    # 10 images while the slower of two works 5 seconds; of 8 seconds in all, 6 in the model
    clocks = [clock_of(4, model=2.0, loading=1.0), clock_of(6, model=4.0, loading=1.0)]
    assert speed(clocks) == {"images_per_second": 2.0, "model": 0.75, "loading": 0.25}
    assert speed([clock_of(0, metric=1.0)]) == {}


def test_every_prediction_is_shown_to_the_caller(records) -> None:
    seen = []
    evaluate(
        segmenter(),
        panoptic_dataset(records),
        on_prediction=lambda index, prediction: seen.append((index, prediction)),
    )
    assert [index for index, _ in seen] == [0, 1, 2]
    assert [prediction.image.shape[:2] for _, prediction in seen] == list(SIZES)
    assert {prediction.task for _, prediction in seen} == {"panoptic"}


def test_images_come_in_order_however_they_are_loaded(records) -> None:
    nine = [replace(records[i % 3], image_id=i) for i in range(9)]
    images = scored_images(panoptic_dataset(nine), "panoptic")
    clock = Stopwatch()
    loaded = list(load_ahead(images, [0, 4, 5, 7, 8], ["panoptic", "semantic"], clock))
    assert [index for index, _ in loaded] == [0, 4, 5, 7, 8]
    assert [item.pixels.shape[:2] for _, item in loaded] == [SIZES[i % 3] for i in (0, 4, 5, 7, 8)]
    assert np.array_equal(loaded[1][1].pixels, np.asarray(Image.open(records[1].image)))
    assert clock.images == 5
    assert clock.seconds["loading"] > 0


def test_processes_can_share_the_images(records) -> None:
    images, model = scored_images(panoptic_dataset(records), "panoptic"), segmenter()
    whole, *parts = (Scores(images, dict.fromkeys(model.tasks, CLASSES)) for _ in range(3))
    for index, (pixels, truth) in load_ahead(images, range(3), whole.tasks, Stopwatch()):
        output = model.forward(pixels)
        results = {task: model.convert(output, task) for task in whole.tasks}
        for scores in (whole, parts[index % 2]):
            scores.update(results, truth)
    parts[0].merge(parts[1])
    assert repr(parts[0].compute().metrics) == repr(whole.compute().metrics)


def test_a_broken_image_is_named(records) -> None:
    records[1].image.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*1\.png"):
        evaluate(segmenter(), panoptic_dataset(records))


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split val of fakes has no images"):
        evaluate(segmenter(), panoptic_dataset([]))


def test_the_model_and_the_data_set_must_be_able_to(records) -> None:
    with pytest.raises(ValueError, match=r"task 'panoptic' is not possible with this model"):
        evaluate(segmenter("semantic"), panoptic_dataset(records), "panoptic")
    with pytest.raises(ValueError, match=r"annotated for instance, not for panoptic"):
        evaluate(segmenter(), instance_dataset(records))


def test_classes_are_matched_by_name_whatever_their_order_and_ids(records) -> None:
    # the same classes as of the data set, in another order and with other category ids
    classes = Classes(("sky", "pond", "grass", "ball"), (1, 2, 3, 4), (False, False, False, True))
    model = segmenter(classes=classes, classes_of_query=(3, 2, 0))
    result = evaluate(model, panoptic_dataset(records))
    assert [round(result.metrics[name]) for name in ("PQ", "AP", "mIoU")] == [100, 100, 100]
    assert result.per_class["grass"]["IoU"] == pytest.approx(100)


def test_classes_of_one_name_are_told_apart_by_id_and_others_known_by_synonyms() -> None:
    model = Classes(("car", "car", "road, route", "pole"), (1, 2, 3, 4), (True, True, False, False))
    wanted = Classes(("Road", "car", "car"), (9, 2, 5), (False, True, True))
    # car 2 is found by its id; what is left of the name is car 1
    assert match_classes(model, wanted) == {2: 0, 1: 1, 0: 2}


def test_what_a_model_knows_besides_counts_as_wrong(records) -> None:
    # the model takes the lawn for sand, which the data set does not have
    names = ("ball", "grass", "sky", "pond", "sand")
    classes = Classes(names, (7, 3, 5, 9, 1), (True, False, False, False, False))
    right = evaluate(segmenter(classes=classes), panoptic_dataset(records))
    assert right.metrics["mIoU"] == pytest.approx(100, abs=0.2)
    wrong = evaluate(
        segmenter(classes=classes, classes_of_query=(0, 4, 2)), panoptic_dataset(records)
    )
    assert wrong.per_class["grass"] == dict.fromkeys(("PQ", "SQ", "RQ", "IoU", "ACC"), 0)
    assert wrong.per_class["sky"]["IoU"] == pytest.approx(100)
    assert "sand" not in wrong.per_class


def test_a_model_must_know_the_classes_of_the_data_set(records) -> None:
    renamed = Classes(("ball", "lawn", "sky", "pond"), (7, 3, 5, 9), (True, False, False, False))
    message = r"does not know these classes of the data set: 'lawn'; it knows 'ball', 'grass', 'sky"
    with pytest.raises(ValueError, match=message):
        evaluate(segmenter(), panoptic_dataset(records, renamed))


def test_objects_of_unknown_classes_are_left_out() -> None:
    rles = [encode_mask(np.full((2, 3), i % 2 == 0)) for i in range(3)]
    box = (0.0, 0.0, 3.0, 2.0)
    segments = [Segment(i, class_id, 0.9, 6, box) for i, class_id in enumerate((4, 1, 2))]
    result = renumber(InstanceResult(2, 3, rles, segments), {4: 1, 2: 0})
    assert [(s.id, s.class_id) for s in result.segments] == [(0, 1), (1, 0)]
    assert result.rles == [rles[0], rles[2]]
