"""`mask2former doctor`."""

from pathlib import Path

from mask2former.cli.options import Json
from mask2former.cli.report import Report


def doctor(as_json: Json = False) -> None:
    """Show what this machine can do, and what is wrong with it."""
    report = Report(as_json)
    with report.working():
        from mask2former.doctor import GIB, OPTIONAL, diagnose

        found = diagnose(Path.cwd())
    report.table(["package", "version"], list(found.versions.items()))
    report.text("")
    report.table(
        ["optional", "version", "for", "installed by"],
        [
            [name, version or "-", OPTIONAL[name].purpose, f"mask2former[{OPTIONAL[name].extra}]"]
            for name, version in found.optional.items()
        ],
    )
    report.text("")
    report.table(
        ["device", "model", "memory", "bf16"],
        [
            [
                device.name,
                device.model,
                "-" if device.memory is None else f"{device.memory / GIB:.1f} GiB",
                {None: "-", False: "no", True: "yes"}[device.has_bf16],
            ]
            for device in found.devices
        ],
    )
    report.text("")
    report.text(f"{found.threads} threads of PyTorch on {found.cores} cores")
    report.text(f"{found.free_disk / GIB:.1f} GiB free on this disk")
    for warning in found.warnings:
        report.text(f"warning: {warning}")
    report.finish(found.__dict__, ["mask2former", "quickstart"])
