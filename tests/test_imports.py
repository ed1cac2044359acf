"""The layers of DESIGN hold, and imports stay cheap."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mask2former"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up: a file imports from its own layer and from those before it.
LAYERS = (
    {"types", "tasks", "suggestions", "files", "processes", "fractions", "masks", "byte_sizes"},
    {
        "kernels",
        "config_part",
        "config_training",
        "config",
        "config_errors",
        "recipes",
        "published",
        "presets",
        "config_io",
        "batch_rule",
        "ranks",
        "meeting",
        "distributed",
        "launch",
    },
    {"model", "loss", "data"},
    {"weights"},
    {"inference"},
    {"evaluation"},
    {"check"},
    {"training"},
    {"export", "serving", "doctor"},
    {"cli", "__main__"},
)
HEIGHTS = {part: height for height, parts in enumerate(LAYERS) for part in parts}
STRANGERS = {"model", "loss", "data"}
CONFINED = {"lightning": "training", "typer": "cli"}
NAMELESS = {"utils", "util", "misc", "common", "helpers", "helper", "base", "core"}
LONGEST_FILE = 400


def imported_modules(source: str) -> Iterator[str]:
    """Absolute names, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            # `from mask2former import config` imports a module of the package
            names = node.names if node.module == "mask2former" else []
            yield from (f"mask2former.{alias.name}" for alias in names)
            if not names:
                yield node.module


def broken_rules(part: str, source: str) -> list[str]:
    """What a file in this part of the package imports and must not."""
    broken = []
    for module in imported_modules(source):
        top, *rest = module.split(".")
        if top in CONFINED and part != CONFINED[top]:
            broken.append(f"{part} imports {top}, which belongs in {CONFINED[top]}")
        if top != "mask2former":
            continue
        target = rest[0] if rest else "the whole package"
        if HEIGHTS.get(target, len(LAYERS)) > HEIGHTS[part]:
            broken.append(f"{part} imports {target}, which is above it")
        if {part, target} <= STRANGERS and part != target:
            broken.append(f"{part} imports {target}; they meet in types")
    return broken


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        ("model", "from mask2former.types import Target", []),
        (
            "model",
            "def f():\n    from mask2former.data.open import x",
            ["model imports data; they"],
        ),
        ("masks", "import mask2former.model.swin", ["masks imports model, which is above"]),
        ("data", "import mask2former", ["data imports the whole package, which is above"]),
        ("loss", "from mask2former import Segmenter", ["loss imports Segmenter, which is above"]),
        ("weights", "from mask2former import config", []),
        ("evaluation", "import lightning.pytorch", ["evaluation imports lightning, which"]),
        ("training", "import typer", ["training imports typer, which belongs in cli"]),
        ("training", "import lightning", []),
    ],
)
def test_the_rules_catch_what_breaks_them(part: str, source: str, expected: list[str]) -> None:
    broken = broken_rules(part, source)
    assert len(broken) == len(expected)
    assert all(b.startswith(e) for b, e in zip(broken, expected, strict=True))


def test_imports_point_down() -> None:
    broken = [
        f"{path.relative_to(PACKAGE)}: {rule}"
        for path in FILES
        if path != PACKAGE / "__init__.py"  # gathers the public names of all layers
        for rule in broken_rules(part_of(path), path.read_text(encoding="utf-8"))
    ]
    assert not broken, "\n".join(broken)


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in FILES} - {"__init__"} <= set(HEIGHTS)


def test_no_file_has_a_name_without_meaning() -> None:
    names = {part.removesuffix(".py") for path in FILES for part in path.relative_to(PACKAGE).parts}
    assert not names & NAMELESS


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not [str(path) for path, length in lengths.items() if length > LONGEST_FILE]


def test_annotations_are_real_objects() -> None:
    # The jaxtyping hook checks annotations at run time and cannot read postponed ones.
    assert not [
        str(p) for p in FILES if "from __future__ import annotations" in p.read_text("utf-8")
    ]


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run_python("import mask2former, sys; print(*sys.modules)").split()
    assert not {"torch", "numpy", "pydantic", "timm", "typer"} & set(loaded)


def test_importing_the_package_is_fast() -> None:
    # The bound is 0.2 s; the least of five keeps a busy machine out of the measurement.
    code = (
        "import time; start = time.perf_counter(); import mask2former; "
        "print(time.perf_counter() - start)"
    )
    assert min(float(run_python(code)) for _ in range(5)) < 0.2


def test_public_names_are_what_they_say() -> None:
    import mask2former

    assert set(mask2former.__all__) <= set(dir(mask2former))
    for name in mask2former.__all__:
        assert getattr(mask2former, name).__name__ == name


def test_a_misspelt_public_name_is_an_attribute_error() -> None:
    import mask2former

    with pytest.raises(AttributeError, match="has no attribute 'Mask2former'"):
        mask2former.Mask2former  # noqa: B018
