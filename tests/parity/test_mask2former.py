"""Our model and losses against Hugging Face's, with the same weights and points.

In float64 the two agree to rounding through all ten predictions. In float32 a mask logit within
rounding of 0 may be blocked by one and not by the other, and from there on the two see different
pixels; those tests give both the same attention masks and check the masks apart.
"""

import pytest
import torch
from torch import Tensor

from mask2former.data.batching import pad_images
from mask2former.loss.criterion import Criterion
from mask2former.masks.packed import pack_masks
from mask2former.model import transformer_decoder
from mask2former.types import Target
from mask2former.weights import huggingface

pytestmark = pytest.mark.parity


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def run_theirs(theirs, ours, images: Tensor, **labels):
    pixels = (images - ours.pixel_mean) / ours.pixel_std
    return theirs(pixel_values=pixels, output_auxiliary_logits=True, **labels)


def their_layers(output) -> list[tuple[Tensor, Tensor]]:
    layers = [
        (layer["class_queries_logits"], layer["masks_queries_logits"])
        for layer in output.auxiliary_logits
    ]
    return [*layers, (output.class_queries_logits, output.masks_queries_logits)]


def make_targets(
    sizes: list[tuple[int, int]], counts: list[int], num_classes: int, seed: int
) -> tuple[list[Target], list[Tensor]]:
    """Random discs, and the labels' masks as booleans."""
    generator = torch.Generator().manual_seed(seed)
    targets, masks = [], []
    for (h, w), count in zip(sizes, counts, strict=True):
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centre = torch.rand(count, 2, 1, 1, generator=generator)
        radius = 10 + 40 * torch.rand(count, 1, 1, generator=generator)
        mask = (y - centre[:, 0] * h) ** 2 + (x - centre[:, 1] * w) ** 2 < radius**2
        labels = torch.randint(num_classes, (count,), generator=generator)
        targets.append(Target(labels, pack_masks(mask.numpy())))
        masks.append(mask)
    return targets, masks


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (224, 352)])
def test_every_layer_equals_theirs_in_float64(pair, size) -> None:
    theirs, ours = (model.double() for model in pair)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        prediction, output = ours(images), run_theirs(theirs, ours, images)
    for layer, (class_logits, mask_logits) in enumerate(their_layers(output)):
        # Their deformable attention and sine codes round a little differently: 1e-7 was seen.
        assert difference(prediction.class_logits[layer], class_logits) < 1e-6
        assert difference(prediction.mask_logits(layer), mask_logits) < 1e-6


@pytest.mark.parametrize("size", [(512, 512), (384, 640)])
def test_every_layer_equals_theirs_in_float32(pair, size, monkeypatch, record_property) -> None:
    theirs, ours = (model.float() for model in pair)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    their_masks: list[Tensor] = []
    for layer in theirs.model.transformer_module.decoder.layers:
        layer.cross_attn.register_forward_pre_hook(
            lambda _module, _args, kwargs: their_masks.append(kwargs["attn_mask"]), with_kwargs=True
        )
    compute_mask = transformer_decoder.attention_mask
    margins: list[float] = []

    def use_their_mask(embeddings: Tensor, features: Tensor) -> Tensor:
        q = embeddings.shape[1]
        theirs_ = their_masks[len(margins)].view(len(embeddings), 8, q, -1)[:, :1]
        logits = torch.bmm(embeddings, features)[:, None]
        differs = compute_mask(embeddings, features) != theirs_
        margins.append(
            (logits[differs].abs().max() / logits.abs().max()).item() if differs.any() else 0
        )
        return theirs_

    with torch.no_grad():
        output = run_theirs(theirs, ours, images)
        monkeypatch.setattr(transformer_decoder, "attention_mask", use_their_mask)
        prediction = ours(images)
    worst = 0.0
    for layer, (class_logits, mask_logits) in enumerate(their_layers(output)):
        worst = max(worst, difference(prediction.class_logits[layer], class_logits))
        worst = max(worst, difference(prediction.mask_logits(layer), mask_logits))
    record_property("worst relative difference", worst)
    assert worst < 1e-5
    # Where the attention masks differ, the logit is 0 to rounding.
    assert len(margins) == 9
    assert max(margins) < 1e-5


def test_losses_and_gradients_equal_theirs_on_a_padded_batch(pair, fixed_points) -> None:
    theirs, ours = (model.double() for model in pair)
    sizes, counts = [(150, 200), (192, 131)], [5, 3]
    generator = torch.Generator().manual_seed(3)
    photos = [torch.randint(256, (3, *s), generator=generator, dtype=torch.uint8) for s in sizes]
    images = pad_images(photos, ours.pixel_mean.flatten().float(), 32).double()
    assert images.shape == (2, 3, 192, 224)
    targets, masks = make_targets(sizes, counts, 17, seed=4)
    padded = [torch.zeros(len(m), 192, 224, dtype=torch.float64) for m in masks]
    for full, mask in zip(padded, masks, strict=True):
        full[:, : mask.shape[1], : mask.shape[2]] = mask

    theirs.zero_grad()
    output = run_theirs(
        theirs, ours, images, mask_labels=padded, class_labels=[t.labels for t in targets]
    )
    output.loss.sum().backward()

    ours.zero_grad()
    criterion = Criterion(draw=fixed_points)
    prediction = ours(images)
    terms = criterion(prediction, targets, (192, 224), num_masks=sum(counts))
    total = criterion.total(terms)
    total.backward()

    assert total.item() == pytest.approx(output.loss.item(), rel=1e-6)
    assert_gradients_equal(theirs, ours)


def assert_gradients_equal(theirs, ours) -> None:
    """Compare by the names that both share after conversion."""
    gradients = {
        name: parameter.grad
        for name, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    expected = huggingface.read(gradients, {}).weights
    compared = 0
    for name, parameter in ours.named_parameters():
        if parameter.grad is None:
            continue
        # A key's bias has no effect on a softmax: its gradient is rounding, far below 1e-12.
        worst = (parameter.grad - expected[name]).abs().max()
        assert worst < 1e-5 * expected[name].abs().max() + 1e-12, name
        compared += 1
    assert compared == len(list(ours.parameters()))
