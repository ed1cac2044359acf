"""The way from a picture to a prediction, with a network that says what it is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mask2former.inference import segmenter as segmenter_module
from mask2former.inference.segmenter import Segmenter, read_pixels
from mask2former.inference.views import ViewSizes
from mask2former.presets import find_preset
from mask2former.types import Classes, MaskPrediction
from mask2former.weights.open import Loaded

CLASSES = Classes(("ball", "grass"), (7, 3), (True, False))


class LeftAndRight(nn.Module):
    """Says that the left half of its input is a ball and the right half is grass."""

    def __init__(self, class_probs=((0.96, 0.02, 0.02), (0.05, 0.85, 0.1))) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([0.2, 0.4, 0.6])[:, None, None])
        self.class_probs = torch.tensor(class_probs)
        self.images = None

    def forward(self, images):
        self.images = images
        height, width = images.shape[-2] // 4, images.shape[-1] // 4
        features = torch.full((1, 1, height, width), 6.0, device=images.device)
        features[..., width // 2 :] = -6
        embeddings = torch.tensor([[[[1.0], [-1.0]]]])
        wrong_layer = torch.zeros(1, 1, 2, 3)
        class_logits = torch.cat([wrong_layer, self.class_probs.log()[None, None]])
        return MaskPrediction(class_logits, embeddings.repeat(2, 1, 1, 1), features)


class RedAndNot(LeftAndRight):
    """Says that what is red is a ball and the rest is grass; its queries change places by size."""

    def forward(self, images):
        self.sizes = [*getattr(self, "sizes", []), tuple(images.shape[-2:])]
        features = 12 * F.avg_pool2d(images[:, :1], 4) - 6
        turned = len(self.sizes) % 2
        embeddings = torch.tensor([[[[1.0], [-1.0]]]]).roll(turned, dims=2)
        class_logits = self.class_probs.log()[None, None].roll(turned, dims=2)
        return MaskPrediction(class_logits, embeddings, features)


def make(task="panoptic", model=None, **options):
    options = {"short_side": 64, "max_long_side": 128, "device": "cpu", **options}
    return Segmenter(model or LeftAndRight(), CLASSES, task=task, **options)


def picture(height=32, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_panoptic_model_does_all_three_tasks() -> None:
    segmenter = make()
    half = np.arange(64) < 32  # 64 x 128 needs no padding, so its halves are the image's
    panoptic = segmenter.predict(picture())
    assert panoptic.task == "panoptic"
    assert [(s.id, s.class_id) for s in panoptic.segments] == [(1, 0), (2, 1)]
    assert (panoptic.segment_map == np.where(half, 1, 2)).all()
    assert np.array_equal(panoptic.masks[0], np.broadcast_to(half, (32, 64)))
    semantic = segmenter.predict(picture(), task="semantic")
    assert (semantic.label_map == np.where(half, 0, 1)).all()
    instance = segmenter.predict(picture(), task="instance")
    # only things: query 0 and query 1, both as ball
    assert [s.class_id for s in instance.segments] == [0, 0]
    assert [instance.class_name(s) for s in instance.segments] == ["ball", "ball"]
    assert instance.segments[0].score == pytest.approx(0.96, abs=0.01)
    assert np.array_equal(instance.masks[0], np.broadcast_to(half, (32, 64)))


def test_an_instance_model_keeps_every_class() -> None:
    prediction = make("instance").predict(picture())
    assert {s.class_id for s in prediction.segments} == {0, 1}
    assert len(prediction.rles) == len(prediction.segments) == 4  # 2 queries x 2 classes


def red_left(height=64, width=128):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    return pixels


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_one_view_at_the_usual_size_is_no_augmentation(task) -> None:
    tta = ViewSizes((64,), 128, flip=False)
    for pixels in (picture(), picture(100, 37), picture(64, 128)):
        plain = make(task).predict_tasks(pixels, make(task).tasks)
        augmented = make(task, tta=tta).predict_tasks(pixels, make(task).tasks)
        for name, prediction in plain.items():
            if name == "instance":
                assert prediction.result == augmented[name].result
            elif name == "panoptic":
                assert prediction.segments == augmented[name].segments
                assert (prediction.segment_map == augmented[name].segment_map).all()
            else:
                assert (prediction.label_map == augmented[name].label_map).all()


def test_views_of_every_size_and_side_agree() -> None:
    tta = ViewSizes((32, 64, 96), 448)
    left = np.arange(128) < 64
    segmenter = make(model=RedAndNot(), tta=tta)
    predictions = segmenter.predict_tasks(red_left(), segmenter.tasks)
    # the first pass has the queries turned: grass is its first one
    assert [s.class_id for s in predictions["panoptic"].segments] == [1, 0]
    assert (predictions["panoptic"].segment_map == np.where(left, 2, 1)).all()
    assert (predictions["semantic"].label_map == np.where(left, 0, 1)).all()
    best = predictions["instance"].segments[0]
    assert best.score == pytest.approx(0.96, abs=0.01)
    assert np.array_equal(predictions["instance"].masks[0], np.broadcast_to(left, (64, 128)))


def test_segments_start_from_the_usual_size_and_semantic_scores_have_no_first() -> None:
    tta = ViewSizes((32, 96), 448)
    usual, small, large = (64, 128), (32, 64), (96, 192)
    for task, sizes in (("panoptic", [usual, small, large]), ("semantic", [small, large])):
        network = RedAndNot()
        output = make(task, network, tta=tta).forward(red_left())
        assert network.sizes == [size for size in sizes for _ in range(2)]
        assert [one.flipped for one in output.passes] == [False, True] * len(sizes)
        assert all(one.frame.original == (64, 128) for one in output.passes)


def test_a_semantic_model_is_augmented_in_the_published_order() -> None:
    pixels = picture(50, 90)
    network = RedAndNot()
    network.class_probs = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.5, 0.2]])
    total = torch.zeros(2, 50, 90)
    usual = Image.fromarray(pixels).resize((115, 64), Image.Resampling.BILINEAR)
    # of 115 x 64: short side 32, 96, and 128 with a long side of at most 200
    for size_wh in ((58, 32), (173, 96), (200, 111)):
        view = usual.resize(size_wh, Image.Resampling.BILINEAR)
        for flipped in (False, True):
            shown = np.asarray(view)[:, ::-1] if flipped else np.asarray(view)
            image = torch.from_numpy(shown.copy()).permute(2, 0, 1)
            padded = network.pixel_mean.repeat(1, -(-image.shape[1] // 32) * 32, 1)
            padded = padded.repeat(1, 1, -(-image.shape[2] // 32) * 32)
            padded[:, : image.shape[1], : image.shape[2]] = image / 255
            said = network(padded[None])
            masks = said.mask_logits()[:1]
            masks = F.interpolate(masks, size=padded.shape[1:], mode="bilinear")[0].sigmoid()
            class_probs = said.class_logits[-1, 0].softmax(dim=-1)[:, :-1]
            scores = torch.einsum("qc,qhw->chw", class_probs, masks)
            scores = scores[None, :, : image.shape[1], : image.shape[2]]
            scores = F.interpolate(scores, size=(50, 90), mode="bilinear")[0]
            total += scores.flip(2) if flipped else scores
    tta = ViewSizes((32, 96, 128), 200)
    label_map = make("semantic", network, tta=tta).predict(pixels).label_map
    assert set(np.unique(label_map)) == {0, 1}
    assert np.array_equal(label_map, (total / 6).argmax(dim=0).numpy())


def test_the_cost_of_a_prediction_is_told() -> None:
    assert make().describe_passes() == "1 pass an image, without test-time augmentation"
    # a 3:4 photo is 64 x 85 and 32 x 43 then, 4 x 5440 and 4 x 1376 of 5440 pixels, halved
    tta = ViewSizes((32,), 448)
    assert make("panoptic", tta=tta).describe_passes() == (
        "test-time augmentation: 4 passes an image (2 sizes, each also mirrored), about 2.5 times "
        "the pixels of one"
    )
    assert make("semantic", tta=tta).describe_passes() == (
        "test-time augmentation: 2 passes an image (1 size, each also mirrored), about 0.5 times "
        "the pixels of one"
    )


def test_a_model_brings_its_own_sizes(monkeypatch) -> None:
    for preset, expected in (
        ("tiny", ViewSizes((112, 128, 144, 160), 512)),
        # none of its own: 640 x 0.5, 0.75 ... 1.75, and 7 x 640
        ("panoptic", ViewSizes((320, 480, 640, 800, 960, 1120), 4480)),
    ):
        loaded = Loaded(LeftAndRight(), CLASSES, find_preset(preset).run("panoptic"))
        monkeypatch.setattr(segmenter_module, "load", lambda *_, loaded=loaded: loaded)
        assert Segmenter.load("w", "cpu").tta is None
        assert Segmenter.load("w", "cpu", tta=True).tta == expected


def test_several_tasks_need_the_network_once(monkeypatch) -> None:
    segmenter = make()
    passes = []
    forward = segmenter.forward
    monkeypatch.setattr(segmenter, "forward", lambda pixels: passes.append(1) or forward(pixels))
    predictions = segmenter.predict_tasks(picture(), segmenter.tasks)
    assert list(predictions) == ["panoptic", "instance", "semantic"]
    assert len(passes) == 1


def test_the_network_gets_the_image_resized_and_padded_with_the_pixel_mean() -> None:
    model = LeftAndRight()
    white = np.full((30, 45, 3), 255, np.uint8)
    make(model=model).forward(white)
    # short side 30 -> 64, long side 45 -> 96; a multiple of 32 already
    assert model.images.shape == (1, 3, 64, 96)
    assert (model.images == 1).all()
    (only,) = make(model=model).forward(np.full((40, 60, 3), 255, np.uint8)[:33]).passes
    # 33 x 60 -> 64 x 116, padded to 128
    assert only.frame.padded == (64, 128)
    assert only.frame.resized == (64, 116)
    assert only.frame.original == (33, 60)
    assert not only.flipped
    padding = model.images[0, :, :, 116:]
    assert torch.equal(padding, torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand_as(padding))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 2), (1200, 5000)])
def test_images_of_any_size_come_back_at_their_size(size) -> None:
    segmenter = make()
    predictions = segmenter.predict_tasks(np.zeros((*size, 3), np.uint8), segmenter.tasks)
    assert predictions["semantic"].label_map.shape == size
    assert predictions["panoptic"].segment_map.shape == size
    assert predictions["instance"].rles[0]["size"] == list(size)


def test_files_and_pillow_images_are_turned_upright(tmp_path: Path) -> None:
    stored = Image.fromarray(picture(5, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    stored.save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(read_pixels(tmp_path / "turned.png"), upright)
    assert np.array_equal(read_pixels(str(tmp_path / "turned.png")), upright)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(read_pixels(opened), upright)
    grey = Image.fromarray(picture(5, 9)[..., 0])
    assert np.array_equal(read_pixels(grey)[..., 2], np.asarray(grey))


def test_other_arrays_and_missing_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 6\) and type uint8 .* \(height, width, 3\)"):
        read_pixels(np.zeros((4, 6), np.uint8))
    with pytest.raises(ValueError, match="type float64"):
        read_pixels(np.zeros((4, 6, 3)))
    with pytest.raises(ValueError, match=r"mode I;16 .* give its path"):
        read_pixels(Image.fromarray(np.zeros((4, 6), np.uint16)))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_pixels("nowhere.png")


def test_the_threshold_keeps_instances_and_picks_segments() -> None:
    segmenter = make("instance")
    scores = [s.score for s in segmenter.predict(picture()).segments]
    assert min(scores) < 0.5 < max(scores)
    kept = segmenter.predict(picture(), score_threshold=0.5)
    assert [s.score for s in kept.segments] == [score for score in scores if score >= 0.5]
    assert len(kept.rles) == len(kept.segments)
    panoptic = make().predict(picture(), score_threshold=0.9)  # grass has 0.85
    assert [s.class_id for s in panoptic.segments] == [0]


def test_thresholds_and_limits_of_the_run_are_used() -> None:
    assert len(make("instance", max_instances=3).predict(picture()).segments) == 3
    picky = make(panoptic_score_threshold=0.9).predict(picture())
    assert [s.class_id for s in picky.segments] == [0]


@pytest.mark.parametrize(
    ("trained", "asked"),
    [("semantic", "panoptic"), ("instance", "semantic"), ("instance", "panoptic")],
)
def test_a_task_that_the_model_cannot_do_is_refused(trained, asked) -> None:
    message = f"task '{asked}' is not possible .* trained for {trained} .* and does {trained}"
    with pytest.raises(ValueError, match=message):
        make(trained).check_tasks([asked])


def test_a_threshold_for_a_semantic_result_is_refused() -> None:
    with pytest.raises(ValueError, match="every pixel of a semantic result gets a class"):
        make().predict(picture(), task="semantic", score_threshold=0.5)


def test_a_semantic_model_resizes_its_scores_and_a_panoptic_one_its_masks(monkeypatch) -> None:
    seen = []
    semantic = segmenter_module.semantic
    monkeypatch.setattr(
        segmenter_module,
        "semantic",
        lambda *args, resized: seen.append(resized) or semantic(*args, resized=resized),
    )
    make("semantic").predict(picture())
    make("panoptic").predict(picture(), task="semantic")
    assert seen == ["scores", "masks"]


def test_attributes_of_another_task_are_named() -> None:
    semantic = make("semantic").predict(picture())
    with pytest.raises(ValueError, match=r"a semantic prediction has no such .* label_map"):
        _ = semantic.segments
    with pytest.raises(ValueError, match="a semantic prediction has no such"):
        _ = semantic.masks
    panoptic = make().predict(picture())
    with pytest.raises(ValueError, match=r"panoptic prediction .* segments, segment_map and masks"):
        _ = panoptic.rles


def test_drawing_follows_the_threshold() -> None:
    sure = LeftAndRight(((0.96, 0.02, 0.02), (0.02, 0.3, 0.68)))
    by_default = make("instance", sure).predict(picture()).draw()
    everything = make("instance", sure).predict(picture(), score_threshold=0.0).draw()
    pixels = np.asarray(by_default)
    factor = pixels.shape[0] // 32
    untouched = picture().repeat(factor, 0).repeat(factor, 1)
    right = slice(pixels.shape[1] * 3 // 4, None)
    assert np.array_equal(pixels[:, right], untouched[:, right])
    assert not np.array_equal(np.asarray(everything)[:, right], untouched[:, right])


def test_the_model_is_set_to_evaluation_and_its_mode_stays() -> None:
    model = LeftAndRight().train()
    make(model=model)
    assert not model.training
