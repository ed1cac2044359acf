"""What a check found: problems with their place and weight, many of a kind in one group."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from mask2former.data.problems import Kind, Problem

Severity: TypeAlias = Literal["error", "warning", "information"]
"""Errors break training or scoring, warnings may be meant, information is for the reader."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "information")
FIRST_FILES = 3
Box: TypeAlias = tuple[float, float, float, float]
"""(x, y, width, height) in pixels"""


class Place(NamedTuple):
    """An image of the data set."""

    split: str
    index: int


@dataclass(frozen=True)
class Finding:
    """A problem, and how to show it."""

    problem: Problem
    severity: Severity
    places: tuple[Place, ...] = ()
    """Images that show it."""
    weight: float = 0.0
    """How bad it is among those of its kind."""
    box: Box | None = None
    """Where to look in the last of the places."""

    @property
    def kind(self) -> Kind:
        return self.problem.kind

    @property
    def message(self) -> str:
        return self.problem.message


def finding(
    kind: Kind,
    message: str,
    *,
    is_error: bool,
    file: str | None = None,
    image_id: int | str | None = None,
    places: tuple[Place, ...] = (),
    weight: float = 0.0,
    box: Box | None = None,
) -> Finding:
    """An error or a warning."""
    problem = Problem(kind, message, is_error=is_error, file=file, image_id=image_id)
    return Finding(problem, "error" if is_error else "warning", places, weight, box)


@dataclass(frozen=True)
class Group:
    """Findings of one kind and severity, the worst first."""

    severity: Severity
    kind: Kind
    findings: tuple[Finding, ...]

    @property
    def count(self) -> int:
        return len(self.findings)

    @property
    def message(self) -> str:
        """That of the worst, and how many more there are."""
        message = self.findings[0].message
        return message if self.count == 1 else f"{message} (and {self.count - 1} more)"

    @property
    def files(self) -> list[str]:
        """Those to mend, each once."""
        files = (f.problem.file for f in self.findings)
        return list(dict.fromkeys(file for file in files if file is not None))

    def as_json(self) -> dict[str, Any]:
        """One line for programs: the worst, and the first few files of all."""
        return {
            "kind": self.kind,
            "file": self.findings[0].problem.file,
            "message": self.message,
            "count": self.count,
            "files": self.files[:FIRST_FILES],
        }


def group_findings(findings: Iterable[Finding]) -> list[Group]:
    """Errors first, then by number; what was found twice counts once."""
    groups: dict[tuple[Severity, Kind], list[Finding]] = defaultdict(list)
    for found in {(f.problem, f.severity): f for f in findings}.values():
        groups[found.severity, found.kind].append(found)
    made = [
        Group(severity, kind, tuple(sorted(found, key=lambda f: -f.weight)))
        for (severity, kind), found in groups.items()
    ]
    return sorted(made, key=lambda group: (SEVERITIES.index(group.severity), -group.count))


def of_severity(groups: Sequence[Group], severity: Severity) -> list[Group]:
    return [group for group in groups if group.severity == severity]
