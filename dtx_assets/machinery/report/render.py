"""Makes the page: one HTML file with everything in it, that loads nothing, and runs nothing but its own search.

Jinja escapes all that comes from data. What the page says is `gather`'s.
"""

import re
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from dtx_assets.machinery.base.private import make_private_directory
from dtx_assets.machinery.base.progress import duration_text
from dtx_assets.machinery.checks.spec import COERCION_THRESHOLD
from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.report.gather import Report
from dtx_assets.machinery.report.pictures import Picture, flow_picture, lineage_picture
from dtx_assets.machinery.report.readiness import RESERVE, STATES
from dtx_assets.machinery.report.trend import trend_panels

SECTIONS = (
    ("readiness", "Readiness"),
    ("flow", "Flow"),
    ("lineage", "Lineage"),
    ("decisions", "Decisions"),
    ("mapping", "Mapping book"),
    ("rejected", "Rejected"),
    ("coercions", "Coercions"),
)


def render(report: Report) -> str:
    """The page as HTML."""
    script = files(__package__).joinpath("templates", "search.js").read_text("utf-8")
    own_areas = [area for area in report.areas if any(flow.area == area for flow in report.flows)]
    lineage_pictures = {area: lineage_picture(nodes) for area, nodes in report.nodes.items()}
    return environment().get_template("cutover.html.j2").render(
        report=report,
        readiness=report.readiness,
        sections=SECTIONS,
        states=STATES,
        own_areas=own_areas,
        flow_pictures={
            area: flow_picture([flow for flow in report.flows if flow.area == area]) for area in own_areas
        },
        lineage_pictures=lineage_pictures,
        style=Markup(files(__package__).joinpath("templates", "style.css").read_text("utf-8")),  # noqa: S704  # ours
        script=Markup(script),  # noqa: S704  # ours
        script_hash=script_hash(script),
        trend=trend_panels(report.readiness.runs),
        legacy_columns={(page.table.name, name) for page in report.legacy for name, _, _ in page.columns},
        archive=ARCHIVE,
        reserve=f"{RESERVE * 100:.0f} %",
        age=figure(partial(age, report.now)),
        boxes=box_ids(lineage_pictures),
        coercion_warns=COERCION_THRESHOLD,
        coercion_warns_text=f"{COERCION_THRESHOLD * 100:.0f} %",
    )  # fmt: skip


def script_hash(script: str) -> str:
    """What the policy of the page lets run: this text, and nothing else."""
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def box_ids(pictures: Mapping[str, Picture]) -> dict[str, str]:
    """The id of a box of each asset, in the first picture that has it."""
    ids: dict[str, str] = {}
    for area, picture in pictures.items():
        for box in picture.boxes:
            ids.setdefault(box.name, f"box-{area}-{box.name}")
    return ids


def write_page(report: Report, path: Path) -> Path:
    """Write the page; whoever opens it meanwhile sees the old one or the new one, whole."""
    page = render(report)
    make_private_directory(path.parent)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        unfinished.write_text(page, "utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


class CompiledTemplates(FileSystemBytecodeCache):
    """Templates as they were compiled before, beside the bytecode of this module, where Python may write that too.

    To compile them takes longer than to make the page. What they are compiled to hangs on this module as well.
    """

    def __init__(self) -> None:
        source = Path(__file__)
        places = cache_from_source(__file__)
        super().__init__(
            str(Path(places).parent), f"{source.stem}.%s.{sha256(source.read_bytes()).hexdigest()[:12]}.cache"
        )

    def dump_bytecode(self, bucket: Bucket) -> None:
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                super().dump_bytecode(bucket)


@cache
def environment() -> Environment:
    jinja = Environment(
        loader=PackageLoader(__package__),
        bytecode_cache=CompiledTemplates(),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"anchor": anchor, "coded": coded, "breakable": breakable, "pixels": pixels, "percent": percent}
    jinja.globals |= {
        "count": figure(number),
        "duration": figure(lambda seconds: "–" if seconds is None else duration_text(seconds)),
        "share": figure(share),
        "moment": figure(moment),
    }
    return jinja


# --- figures ----------------------------------------------------------------------------------------------------------


def figure(written: Callable[[Any], str]) -> Callable[..., Markup]:
    """A function of the templates: a value as it is written, in an element that says what it is a figure of.

    Nothing else may write a number (`visible`), so that every number of the page has a name, and a test can ask for
    each of them what the database says.
    """

    def element(value: Any, *name: object, tag: str = "span") -> Markup:
        said = " ".join(map(str, name))
        return Markup("<{} data-figure='{}'>{}</{}>").format(tag, visible(said), written(value), tag)

    return element


def number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"


def share(part: float | None) -> str:
    """`12.5 %`; what rounds to nothing or to all says so."""
    if part is None:
        return "–"
    if 0 < part < 0.001:
        return "< 0.1 %"
    if 0.999 < part < 1:
        return "> 99.9 %"
    return f"{part * 100:.1f} %"


def age(now: datetime, at: datetime | None) -> str:
    """How long before `now` something was: `3 min`, `5 h`, `2 days`."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= (2 * length if unit == "days" else length):
            return f"{int(seconds // length)} {unit}"
    return "now"


# --- what is no figure ------------------------------------------------------------------------------------------------


def pixels(place: float) -> str:
    return f"{place:.1f}".removesuffix(".0")


def percent(part: float) -> str:
    """As style sheets write it."""
    return f"{part * 100:.1f}%"


def anchor(text: str) -> str:
    """A text as part of an id."""
    return re.sub(r"[^\w-]+", "-", text)


def coded(text: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    begin, *rest = [visible(part) for part in text.split("`")]
    if len(rest) % 2:
        return Markup("{}").format(visible(text))
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return Markup("{}").format(begin) + Markup("").join(Markup("<code>{}</code>{}").format(*pair) for pair in pairs)


def breakable(name: str) -> Markup:
    """A name of several parts, which a narrow column breaks between them and not within a word."""
    return Markup("/<wbr>").join(visible(part) for part in name.split("/"))


def visible(value: Any) -> Any:
    """Text with control characters and direction marks spelt out, which could hide what it says.

    TypeError for a number: it has to be a `figure`.
    """
    if isinstance(value, int | float | datetime):
        raise TypeError(f"{value!r} is shown without a name: use count(), duration(), share(), moment() or age()")
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if value.isprintable():
        return value
    return "".join(sign if sign.isprintable() or sign == "\n" else f"\\u{ord(sign):04x}" for sign in value)
