from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mask2former.distributed import mean_over_ranks, rank, world_size

CPU = torch.device("cpu")


def test_a_single_process_is_rank_0_of_1() -> None:
    assert (rank(), world_size()) == (0, 1)
    assert mean_over_ranks(7, CPU).item() == 7


def _take_part(process: int, folder: Path) -> None:
    # A file, because a port may be taken.
    store = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    mean = mean_over_ranks(3 if process == 0 else 0, CPU)
    (folder / str(process)).write_text(f"{rank()} {world_size()} {mean.item()}")
    dist.destroy_process_group()


def test_every_rank_gets_the_mean_of_all(tmp_path: Path) -> None:
    # 3 targets here and none there: 1.5 a rank
    mp.spawn(_take_part, args=(tmp_path,), nprocs=2)
    assert (tmp_path / "0").read_text() == "0 2 1.5"
    assert (tmp_path / "1").read_text() == "1 2 1.5"
