"""Charts that a page shows interactively and a file keeps as SVG, both from one specification of Vega-Lite.

Text of a config, such as the name of a class, is a value in the data of a chart, never the name of a field: Vega-Lite
reads dots and brackets in names as paths.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import altair as alt
import markupsafe
import vl_convert

from cloudseg.report.colours import INK, class_colours
from cloudseg.storage import files

VERSION = "6.4"  # of Vega-Lite, among those that vl_convert brings; altair's own
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
GRID = "#e6e6e6"
CACHE = Path(".snakemake/cloudseg")
WIDTH = 640  # pixels of a chart that fills its place, where there is none: in its SVG

CONFIG = {
    "font": FONT,
    "background": "white",
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": GRID,
        "domainColor": "#888888",
        "labelLimit": 260,
        "labelSeparation": 6,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelLimit": 260},
    "title": {"anchor": "start", "color": INK, "fontWeight": 600},
    "view": {"stroke": "transparent"},
    "line": {"strokeWidth": 2},
}


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Parameters
    ----------
    chart : of altair. With ``width="container"`` it is as wide as its place; others scroll sideways where it is narrow.
    name : names its element in the page: lower-case letters, digits and hyphens.
    title : above it.
    caption : below it: what to look for.
    datasets : the rows of data that the chart takes by name, which altair would copy value by value.
    """

    chart: Any
    name: str
    title: str
    caption: str = ""
    datasets: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)

    @property
    def specification(self) -> dict[str, Any]:
        """The chart in Vega-Lite's words."""
        specification = self.chart.to_dict()
        datasets = {**specification.get("datasets", {}), **self.datasets}
        return {**specification, "datasets": datasets, "config": {**specification.get("config", {}), **CONFIG}}

    def write_svg(self, path: str | Path) -> None:
        """Write the chart as SVG."""
        write_svg(self.specification, path)


def write_svg(specification: Mapping[str, Any], path: str | Path) -> None:
    """Write a chart, in Vega-Lite's words, as SVG."""
    width = {"width": WIDTH} if specification.get("width") == "container" else {}
    files.write_text(path, vl_convert.vegalite_to_svg({**specification, **width}, vl_version=VERSION) + "\n")


def class_scale(classes: Sequence[str]) -> alt.Scale:
    """Return the scale that gives each class its colour."""
    return alt.Scale(domain=list(classes), range=class_colours(len(classes)))


def charts_script() -> markupsafe.Markup:
    """Return the libraries that draw charts, packed, as the text of a script element that `charts.js` unpacks.

    Making the bundle takes a second, so it is kept where Snakemake keeps its own files, if this is such a place.
    """
    kept = CACHE / f"charts-{vl_convert.__version__}-{VERSION}.js.gz"
    try:
        packed = kept.read_bytes()
    except FileNotFoundError:
        packed = gzip.compress(vl_convert.javascript_bundle(vl_version=VERSION).encode(), mtime=0)
        if CACHE.parent.is_dir():
            with files.atomic(kept) as temporary:
                temporary.write_bytes(packed)
    return markupsafe.Markup(base64.b64encode(packed).decode())  # noqa: S704  # base64 holds no markup
