"""Every command in the README and the pages can be typed, and the tree is the one on disk."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from mask2former.cli.main import UsageError, app

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mask2former"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fenced_blocks(text: str, language: str) -> Iterator[str]:
    for block in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if block[1] == language:
            yield block[2]


def commands(text: str) -> Iterator[list[str]]:
    """Words of every command in bash blocks, without prompts, comments and what they pipe to."""
    for block in fenced_blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\|\|?|;", line.removeprefix("$ ")):
                words = shlex.split(command, comments=True)
                if words:
                    yield words


def parse(words: list[str]) -> None:
    """Parses a call of the console script without running it."""
    command, context, name, rest = get_command(app), None, "mask2former", list(words)
    while isinstance(command, TyperGroup):
        context = command.make_context(name, list(rest), parent=context)
        name, found, rest = command.resolve_command(context, list(rest))
        assert found is not None
        command = found
    command.make_context(name, rest, parent=context)


def make_targets(makefile: str) -> set[str]:
    return {name for line in re.findall(r"^\.PHONY:(.*)$", makefile, re.M) for name in line.split()}


def tree_paths(text: str) -> Iterator[str]:
    """Folders and files that begin a line of the tree, relative to the package."""
    for language in ("", "text"):
        for block in fenced_blocks(text, language):
            first, *lines = block.splitlines()
            if first.split()[0].rstrip("/") != "src/mask2former":
                continue
            for line in lines:
                found = re.match(r"[\s│├└─]*([\w/]+(?:\.py|/))(?:\s|$)", line)
                if found:
                    yield found[1]


EXAMPLE = """
```bash
$ make check            # everything
mask2former train --data my/images \\
    --epochs 3 && mask2former predict --weights W a.jpg --output out
```
```python
mask2former nonsense
```
```
src/mask2former/
  types.py   what folders exchange
  model/     the network
```
"""


def test_commands_are_found_in_bash_blocks_only() -> None:
    assert list(commands(EXAMPLE)) == [
        ["make", "check"],
        ["mask2former", "train", "--data", "my/images", "--epochs", "3"],
        ["mask2former", "predict", "--weights", "W", "a.jpg", "--output", "out"],
    ]
    assert list(tree_paths(EXAMPLE)) == ["types.py", "model/"]


@pytest.mark.parametrize(
    "words",
    [["trian"], ["train", "--dat", "x"], ["predict", "x"], ["weights", "open", "W"]],
)
def test_a_command_that_cannot_be_typed_is_caught(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    targets = make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    typed = list(commands(page.read_text(encoding="utf-8")))
    ours = [words[1:] for words in typed if words[0] == "mask2former"]
    assert ours, "the page shows no command"
    for words in ours:
        parse(words)
    for words in typed:
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets


def test_the_tree_of_the_readme_is_the_one_on_disk() -> None:
    shown = list(tree_paths((ROOT / "README.md").read_text(encoding="utf-8")))
    assert not [path for path in shown if not (PACKAGE / path).exists()]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {path.split("/")[0] for path in shown if "/" in path} & folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert links or page.name != "README.md"
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
