"""What the terminal says while a run goes on."""

import pytest
import torch

from mask2former.training.log.progress import ProgressLine, TimeLeft, progress_line

VALUES = {
    "loss": 30.0,
    "loss_class": 5.0,
    "loss_mask": 10.0,
    "loss_dice": 15.0,
    "lr": 1e-4,
    "seconds_per_step": 0.5,
}
PARTS = {"seconds_data": 0.1, "seconds_compute": 0.4, "images_per_second": 32.0}


def test_the_line_says_how_far_and_how_fast() -> None:
    line = progress_line(150, 400, VALUES | PARTS, seconds_left=500.4, memory_gib=1.5)
    assert line == (
        "150/400  0:08:20 left  loss 30.00 (class 5.00 mask 10.00 dice 15.00)  lr 1.0e-04  "
        "0.50 s/step (data 0.10 compute 0.40)  32.0 images/s  1.5 GiB"
    )


def test_the_rest_takes_as_long_as_the_recent_steps() -> None:
    left = TimeLeft(1000, 0, None)
    for step in range(20, 220, 20):
        left.after(step, 10.0)  # a slow beginning
    for step in range(220, 420, 20):
        seconds = left.after(step, 0.5)
    # the last ten of these say that 600 steps take 0.5 s each
    assert seconds == pytest.approx(300.0)


def test_steps_count_by_their_number() -> None:
    left = TimeLeft(100, 10, None)
    left.after(40, 1.0)
    # 30 steps of 1 s and 10 of 3 s: 1.5 s a step for the last 50
    assert left.after(50, 3.0) == pytest.approx(75.0)


def test_scorings_to_come_take_their_time() -> None:
    left = TimeLeft(100, 0, 30)
    # scored after 30, 60, 90 and at the end
    assert left.after(30, 1.0) == pytest.approx(70.0)
    left.scored(10.0)
    left.scored(20.0)
    assert left.after(35, 1.0) == pytest.approx(65.0 + 3 * 15.0)
    assert left.after(90, 1.0) == pytest.approx(10.0 + 15.0)
    assert left.after(100, 1.0) == 0.0


def test_lines_are_written_where_there_is_no_terminal(capsys) -> None:
    line = ProgressLine(10, 0, device=torch.device("cpu"))
    line.show(5, VALUES)
    line.close()
    assert capsys.readouterr().err.startswith("5/10  0:00:02 left  loss 30.00")
