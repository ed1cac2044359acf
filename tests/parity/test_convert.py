"""What we hand to Hugging Face, `transformers` opens with equal outputs; what it saves, we open."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.data.class_tables import class_table
from mask2former.presets import find_preset
from mask2former.weights import huggingface
from mask2former.weights.build import build_model
from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.convert import convert
from mask2former.weights.open import read

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    "preset", ["coco-instance-swin-tiny", "coco-panoptic-swin-base", "coco-panoptic-resnet50"]
)
def test_transformers_opens_our_folder_with_equal_outputs(preset: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    published = find_preset(preset)
    assert published.classes is not None
    classes, run = class_table(published.classes), published.run()
    torch.manual_seed(0)
    ours = build_model(run.model, len(classes)).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            # Parts that start as 0 or 1 would hide a mix-up.
            if parameter.ndim == 1 or "bias_table" in name or not parameter.any():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = convert(
        Checkpoint(dict(ours.state_dict()), run, classes), tmp_path / "ours", "huggingface"
    )
    theirs, report = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        folder, output_loading_info=True
    )
    # They complain of nothing.
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs.eval()
    assert theirs.config.id2label == dict(enumerate(classes.names))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(pixel_values=(images - ours.pixel_mean) / ours.pixel_std)
        found = ours(images)
    for left, right in (
        (found.class_logits[-1], expected.class_queries_logits),
        (found.mask_logits(-1), expected.masks_queries_logits),
    ):
        # float32 through up to 24 blocks; about 1e-6 was measured
        assert (left - right).abs().max() < 1e-5 * right.abs().max()
    theirs.save_pretrained(tmp_path / "theirs")
    back = read(tmp_path / "theirs")
    weights = {n: t for n, t in ours.state_dict().items() if not n.endswith("batches_tracked")}
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in weights.items())
    assert back.classes == classes
    in_memory = huggingface.read(theirs.state_dict(), {})
    assert in_memory.left_over == []
    assert in_memory.weights.keys() == back.weights.keys()


def test_their_image_processor_opens_with_our_size_and_statistics(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    published = find_preset("coco-instance-resnet50")
    run = published.run()
    model = build_model(run.model, 80)
    classes = class_table("coco_instance")
    checkpoint = Checkpoint(dict(model.state_dict()), run, classes)
    folder = convert(checkpoint, tmp_path / "ours", "huggingface")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    assert type(processor).__name__.startswith("Mask2FormerImageProcessor")
    black = processor(images=np.zeros((300, 500, 3), np.uint8), return_tensors="pt")
    # 500 x 800 / 300 is 1333, which they stretch to the next multiple of 32 where we pad
    assert black["pixel_values"].shape == (1, 3, 800, 1344)
    expected = (-model.pixel_mean / model.pixel_std).flatten()
    torch.testing.assert_close(black["pixel_values"][0, :, 0, 0], expected)
