import json
from pathlib import Path

from mask2former.training.plots import read_curves


def test_a_resumed_run_counts_its_later_values(tmp_path: Path) -> None:
    entries = [
        {"step": 10, "loss": 3.0},
        {"step": 10, "AP": None, "mIoU": 40.0},
        {"step": 20, "loss": 2.0},
        {"step": 20, "loss": 1.5},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert read_curves(path) == {"loss": ([10, 20], [3.0, 1.5]), "mIoU": ([10], [40.0])}
