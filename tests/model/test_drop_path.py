import pytest
import timm.layers
import torch

from mask2former.model.backbone import make_backbone
from mask2former.model.drop_path import DropPath, drawn_from


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_what_is_kept_is_scaled_up() -> None:
    torch.manual_seed(0)
    path = DropPath(0.3)
    branch = torch.ones(10_000, 1, 1, 1)
    dropped = path(branch)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    # The mean of 10,000 draws has a standard deviation of 0.0065.
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(path.eval()(branch), branch)


@pytest.mark.parametrize("name", ["swin_tiny", "resnet10t", "convnext_atto"])
def test_the_probability_rises_to_that_of_the_last_block(name: str) -> None:
    backbone = make_backbone(name, drop_path=0.3)
    paths = [module for module in backbone.modules() if isinstance(module, DropPath)]
    found = [path.probability for path in paths]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(0.3)
    assert not any(isinstance(module, timm.layers.DropPath) for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_an_image_loses_the_same_blocks_in_any_batch(name: str) -> None:
    torch.manual_seed(0)
    backbone = make_backbone(name, drop_path=0.9).train()
    images, seeds = torch.rand(4, 3, 64, 64), [5, 6, 7, 8]
    with drawn_from(backbone, generators(seeds)):
        together = backbone(images)[4]
    for image in range(4):
        with drawn_from(backbone, generators(seeds[image : image + 1])):
            alone = backbone(images[image : image + 1])[4]
        torch.testing.assert_close(together[image], alone[0], rtol=1e-4, atol=1e-5)


def test_other_seeds_drop_other_blocks_and_nothing_is_left_behind() -> None:
    path = DropPath(0.5)
    branch = torch.ones(64, 1)
    found = []
    for first in (0, 1000):
        with drawn_from(path, generators(list(range(first, first + 64)))):
            found.append(path(branch))
            assert torch.equal(path(branch), found[-1])
    assert not torch.equal(*found)
    assert path.draws is None


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    (generator,) = generators([0])
    before = generator.get_state()
    with drawn_from(make_backbone("resnet10t"), [generator]):
        assert torch.equal(generator.get_state(), before)


def test_windows_are_dropped_with_their_image() -> None:
    path = DropPath(0.5)
    with drawn_from(path, generators([0, 1, 2, 3, 4])):
        whole = path(torch.ones(5, 1))
        windows = path(torch.ones(5 * 4, 1, 2))
    assert 0 in whole
    assert torch.equal(windows[..., 0].view(5, 4), whole.expand(5, 4))
