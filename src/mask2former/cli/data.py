"""`mask2former data`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.data_convert import convert
from mask2former.cli.data_shard import shard
from mask2former.cli.options import FormatName, Json, SplitShares, TaskName, parse_shares
from mask2former.cli.report import Report
from mask2former.cli.train import free_folder

if TYPE_CHECKING:
    from mask2former.check.check_folder import Check
    from mask2former.check.findings import Group
    from mask2former.check.needs import Proposal


def check(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Data set, in any common format.")],
    task: TaskName = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose sizes and queries count; default: by the task."),
    ] = None,
    data_format: FormatName = None,
    split: SplitShares = None,
    output: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Default: runs/<data folder>-check-<n>.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors as well.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Processes; default: one per core.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read everything once; say what is wrong, and write report.html and report.json."""
    report = Report(as_json)
    with report.working():
        from mask2former.check.check_folder import open_folder, read_everything
        from mask2former.check.proposals import train_command
        from mask2former.check.report import as_json, proposed_command, write_report
        from mask2former.files import removed_if_empty, usable_folder

        fractions = parse_shares(split)
        opened = open_folder(
            data, preset=preset, task=task, format=data_format, fractions=fractions
        )
        stem = Path("runs") / f"{data.resolve().name}-check"
        # before everything is read, which takes long
        folder = usable_folder(free_folder(stem) if output is None else output)
        with removed_if_empty(folder):
            found = read_everything(opened, workers=workers, progress=report.progress)
            page = write_report(found, folder)
        groups = found.groups
    _show(report, found, groups)
    severe = ("error", "warning") if strict else ("error",)
    faults = [group for group in groups if group.severity in severe]
    if not faults:  # which come first
        _show_proposals(report, found.proposals, proposed_command(found), preset=found.run.preset)
    report.text(f"\nreport: {page}")
    report.finish(
        {**as_json(found), "report": page},
        ["mask2former", "data", "check", str(data)] if faults else train_command(found.run),
    )
    if faults:
        raise ValueError(_summary(data, page, faults))


def synthesize(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    images: Annotated[int, typer.Option(metavar="N", help="Of the training split.")] = 400,
    val: Annotated[int, typer.Option(metavar="N", help="Of the validation split.")] = 24,
    size: Annotated[
        tuple[int, int], typer.Option(metavar="H W", help="Of every image in pixels.")
    ] = (128, 160),
    seed: Annotated[int, typer.Option(metavar="N", help="The same one, the same data.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a panoptic data set of shapes, for trying things out."""
    report = Report(as_json)
    with report.working():
        from mask2former.data.synthetic import write_synthetic

        write_synthetic(output, train_images=images, val_images=val, size=size, seed=seed)
    report.text(f"{images} + {val} images of {size[0]} x {size[1]} pixels in {output}")
    report.finish(
        {"output": output, "splits": {"train": images, "val": val}},
        ["mask2former", "data", "check", str(output)],
    )


def _show(report: Report, found: "Check", groups: "list[Group]") -> None:
    dataset = found.first.dataset
    count = len(dataset.classes)
    classes = f"{count} class{'es' * (count != 1)}"
    report.text(f"{found.folder}: {dataset.format}, {found.run.task}, {classes}")
    for note in found.notes:
        report.text(f"  {note}")
    report.text("")
    report.table(
        ["split", "images", "objects"],
        [[n, str(len(s.images)), str(int(s.counts.sum()))] for n, s in found.splits.items()],
    )
    for group in groups:
        report.text(f"\n{group.severity}: {group.kind} ({group.count})\n  {group.message}")


def _show_proposals(
    report: Report, proposals: Sequence["Proposal"], command: str | None, *, preset: str
) -> None:
    from mask2former.check.needs import shown

    if command is None:
        return
    report.text(f"\nproposals for the preset {preset} (nothing is applied by itself):")
    for proposal in proposals:
        values = f"{shown(proposal.value)} instead of {shown(proposal.now)}"
        report.text(f"  {proposal.key}: {values}\n    {proposal.reason}")
    report.text(f"\nwith all of them: {command}")


def _summary(data: Path, page: Path, faults: "list[Group]") -> str:
    numbers = {"error": 0, "warning": 0}
    for group in faults:
        numbers[group.severity] += group.count
    counted = " and ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in numbers.items() if n)
    kinds = ", ".join(dict.fromkeys(group.kind for group in faults))
    return f"{data} has {counted} ({kinds}); see {page}"


app = typer.Typer(
    help="Look at data sets, convert them, pack them, invent them.", no_args_is_help=True
)
for _command in (check, convert, shard, synthesize):
    app.command()(_command)
