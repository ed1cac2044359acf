"""The report as one HTML page: nothing outside of it is loaded, and no script runs."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from mask2former.check.charts import bar_cell, number
from mask2former.check.findings import Group, Severity, of_severity
from mask2former.check.needs import Proposal, shown
from mask2former.check.pictures import Picture
from mask2former.check.sizes import Vanishing
from mask2former.check.statistics import ClassStatistics, SplitStatistics, Spread
from mask2former.types import Classes

LISTED = 5
"""Findings of a kind that are read at once; more unfold."""
UNFOLDED = 200
"""Most findings of a kind on the page; report.json has all."""
HEADINGS: Mapping[Severity, str] = {
    "error": "Errors: training or scoring would fail or be wrong",
    "warning": "Warnings: may be meant",
    "information": "Good to know",
}


@dataclass(frozen=True)
class Page:
    """What the page shows."""

    folder: str
    format: str
    task: str
    preset: str
    num_queries: int
    classes: Classes
    notes: Sequence[str]
    groups: Sequence[Group]
    proposals: Sequence[Proposal]
    proposed_command: str | None
    """With all proposals; none without any."""
    splits: Mapping[str, SplitStatistics]
    per_class: Mapping[str, Sequence[ClassStatistics]]
    charts: Sequence[str]
    """As SVG."""
    offenders: Mapping[tuple[Severity, str], Sequence[Picture]]
    """Of each group, by severity and kind."""
    samples: Mapping[str, Sequence[Picture]]
    """Of each split."""
    augmented: Sequence[Picture]


def render(page: Page) -> str:
    """The whole page."""
    style = (resources.files("mask2former.check") / "report.css").read_text(encoding="utf-8")
    title = escape(f"Data check: {page.folder}")
    sections = [
        _head(page),
        _problems(page),
        _section("proposals", "Proposals", _proposals(page)),
        _section("understood", "How the files were understood", _understood(page)),
        _section("splits", "Splits", _splits(page)),
        _section("sizes", "Sizes", f'<div class="charts">{"".join(page.charts)}</div>'),
        _section("classes", "Classes", _classes(page)),
        _samples(page),
        _augmented(page),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{style}</style></head>\n<body>"
        f"{''.join(sections)}</body></html>\n"
    )


def _head(page: Page) -> str:
    images = sum(split.images for split in page.splits.values())
    objects = sum(split.objects for split in page.splits.values())
    errors, warnings = (
        sum(group.count for group in of_severity(page.groups, severity))
        for severity in ("error", "warning")
    )
    tiles = [
        _tile("image", images, ""),
        _tile("object" if page.task == "instance" else "segment", objects, ""),
        _tile("class", len(page.classes), ""),
        _tile("error", errors, "error" if errors else "fine"),
        _tile("warning", warnings, "warning" if warnings else "fine"),
    ]
    links = ["problems", "proposals", "understood", "splits", "sizes", "classes", "samples"]
    links.append("augmented")
    return (
        f"<h1>Data check</h1><p class=under><code>{escape(page.folder)}</code></p>"
        f"<p class=under>read as {escape(page.format)}, for {escape(page.task)} segmentation with "
        f"the sizes of preset {escape(page.preset)}</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
        f"<nav>{''.join(f'<a href=#{link}>{link}</a>' for link in links)}</nav>"
    )


def _tile(noun: str, value: int, style: str) -> str:
    return (
        f'<div class="tile {style}"><b>{number(value)}</b><span>{_plural(noun, value)}</span></div>'
    )


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + ("es" if noun.endswith("s") else "s")


def _problems(page: Page) -> str:
    parts = []
    for severity, heading in HEADINGS.items():
        groups = of_severity(page.groups, severity)
        if groups:
            parts.append(f"<h3>{heading}</h3>")
            parts += [_group(group, page) for group in groups]
    return _section("problems", "Problems", "".join(parts) or "<p>None found.</p>")


def _group(group: Group, page: Page) -> str:
    messages = [escape(f.problem.message) for f in group.findings[:UNFOLDED]]
    more = group.count - len(messages)
    rest = _list(messages[LISTED:])
    if more:
        rest += f"<p>{number(more)} more are in report.json.</p>"
    folded = (
        f"<details><summary>{number(group.count - LISTED)} more</summary>{rest}</details>"
        if group.count > LISTED
        else ""
    )
    return (
        f'<div class="problem {group.severity}"><h3><b class="{group.severity}">'
        f'{escape(group.kind)}</b> <span class="count">{number(group.count)}</span></h3>'
        f"{_list(messages[:LISTED])}{folded}"
        f"{_pictures(page.offenders.get((group.severity, group.kind), ()))}</div>"
    )


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _proposals(page: Page) -> str:
    if page.proposed_command is None:
        return f"<p>None: preset {escape(page.preset)} as it is.</p>"
    rows = "".join(
        f'<tr><td class="key"><code>{escape(p.key)}</code></td>'
        f"<td>{escape(shown(p.now))}</td>"
        f"<td>{escape(shown(p.value))}</td><td>{escape(p.reason)}</td></tr>"
        for p in page.proposals
    )
    return (
        f"<p class=under>What may fit these data better than preset {escape(page.preset)}. Nothing "
        f'is applied by itself.</p><div class="wide"><table><thead><tr><th>key</th><th>preset</th>'
        f"<th>proposed</th><th>because</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p>All of them: <code>{escape(page.proposed_command)}</code></p>"
    )


def _understood(page: Page) -> str:
    things = sum(page.classes.is_thing)
    facts = [
        f"The format is {page.format}; the task is {page.task}.",
        f"{len(page.classes)} {_plural('class', len(page.classes))}: {things} of countable things, "
        f"{len(page.classes) - things} of stuff.",
        *page.notes,
    ]
    return _list(map(escape, dict.fromkeys(facts)))


def _splits(page: Page) -> str:
    rows = [(name, getter) for name, getter in _SPLIT_ROWS if any(map(getter, _all(page)))]
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in page.splits)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f'<td class="number">{getter(s) or "-"}</td>' for s in _all(page))
        + "</tr>"
        for name, getter in rows
    )
    return (
        f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"<p class=under>Three numbers are least, median, most. Objects vanish when resizing "
        f"leaves them smaller than one pixel of the predicted masks (a quarter of the network's "
        f"input each way); in parentheses, those smaller than one pixel of the input. In training, "
        f"averaged over the random scales. The model has {page.num_queries} queries an image.</p>"
    )


def _all(page: Page) -> list[SplitStatistics]:
    return list(page.splits.values())


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return " · ".join(number(v) for v in (spread.least, spread.median, spread.most))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _vanish(shares: Vanishing) -> str:
    if shares.below_stride is None:
        return ""
    return f"{_percent(shares.below_stride)} ({_percent(shares.gone)})"


_SPLIT_ROWS = (
    ("images", lambda s: number(s.images)),
    ("objects or segments", lambda s: number(s.objects)),
    ("crowds", lambda s: s.crowds and number(s.crowds)),
    ("videos or scenes", lambda s: s.groups and number(s.groups)),
    ("images without objects", lambda s: s.empty and number(s.empty)),
    ("unreadable", lambda s: s.unreadable and number(s.unreadable)),
    ("image height, pixels", lambda s: _spread(s.heights)),
    ("image width, pixels", lambda s: _spread(s.widths)),
    ("objects an image", lambda s: _spread(s.objects_per_image)),
    ("object size (root of area), pixels", lambda s: _spread(s.object_sides)),
    ("pixels without a segment", lambda s: _percent(s.unlabelled)),
    ("pixels in several objects", lambda s: _percent(s.overlapping)),
    ("objects that vanish in evaluation", lambda s: _vanish(s.vanishing_in_test)),
    ("objects that vanish in training", lambda s: _vanish(s.vanishing_in_training)),
)


def _classes(page: Page) -> str:
    """A table of the classes that occur, and below it the names of the others."""
    splits = list(page.splits)
    counts = np.array([[c.objects for c in page.per_class[name]] for name in splits])
    used = np.flatnonzero(counts.any(axis=0)).tolist()
    unused = np.flatnonzero(~counts.any(axis=0)).tolist()
    head = "".join(
        f'<th class="number">{escape(name)} images</th><th class="number">{escape(name)} objects'
        f'</th><th class="number">{escape(name)} area</th>'
        for name in splits
    )
    rows = "".join(_class_row(page, class_id) for class_id in used)
    # a box that scrolls sideways would keep the head of a long table from staying in view
    table = (
        f'<table class="full"><thead><tr><th class="number">id</th><th>class</th><th></th>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )
    shown = "" if not used else table if len(splits) <= 3 else f'<div class="wide">{table}</div>'
    if not unused:
        return shown
    names = ", ".join(
        f"{escape(page.classes.names[i])} ({page.classes.category_ids[i]})" for i in unused
    )
    return (
        f"{shown}<details><summary>{len(unused)} {_plural('class', len(unused))} without objects"
        f"</summary><p>{names}</p></details>"
    )


def _class_row(page: Page, class_id: int) -> str:
    cells = "".join(
        f'<td class="number">{number(rows[class_id].images)}</td>'
        f"{bar_cell(number(rows[class_id].objects), _share(rows, class_id))}"
        f'<td class="number">{rows[class_id].area:.1%}</td>'
        for rows in page.per_class.values()
    )
    classes = page.classes
    kind = "thing" if classes.is_thing[class_id] else "stuff"
    return (
        f'<tr><td class="number">{classes.category_ids[class_id]}</td>'
        f'<td class="name">{escape(classes.names[class_id])}</td><td>{kind}</td>{cells}</tr>'
    )


def _share(rows: Sequence[ClassStatistics], class_id: int) -> float:
    """Of the objects of the most frequent class, in [0, 1]."""
    most = max(row.objects for row in rows)
    return rows[class_id].objects / most if most else 0.0


def _samples(page: Page) -> str:
    parts = [
        f"<h3>{escape(name)}</h3>{_pictures(pictures)}"
        for name, pictures in page.samples.items()
        if pictures
    ]
    return _section("samples", "Random samples", "".join(parts) or "<p>None can be drawn.</p>")


def _augmented(page: Page) -> str:
    shown = _pictures(page.augmented) or "<p>None can be drawn.</p>"
    return _section("augmented", "After augmentation, before anything is pasted", shown)


def _section(anchor: str, title: str, content: str) -> str:
    return f'<section id="{anchor}"><h2>{title}</h2>{content}</section>\n'


def _pictures(pictures: Sequence[Picture]) -> str:
    figures = "".join(
        f'<figure><img width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(picture.caption)}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(picture.jpeg).decode()}"><figcaption>{escape(picture.caption)}'
        f"</figcaption></figure>"
        for picture in pictures
    )
    return f'<div class="pictures">{figures}</div>' if figures else ""
