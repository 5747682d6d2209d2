"""Draws metrics.csv: one panel per metric, so that a glance tells how a run went."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from pipeline.training.logs.metrics_csv import read_rows

_WIDTH, _HEIGHT = 4.5, 2.8
"""Of a panel, in inches."""
_NUMBERS = StrMethodFormatter("{x:.3g}")


def draw_curves(metrics_csv: Path, picture: Path) -> None:
    """Draw every column of a metrics.csv that holds a number over the step.

    Args:
        metrics_csv: the run's metrics.
        picture: PNG file to write.
    """
    rows = read_rows(metrics_csv)
    names = [
        name
        for name in (rows[0] if rows else {})
        if name not in ("step", "epoch") and not name.endswith("_weighted")
    ]
    series = {}
    for name in names:
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            series[name] = points
    if not series:
        return
    columns = min(3, len(series))
    lines = -(-len(series) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * lines))
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    figure.subplots_adjust(  # a layout that measures every label takes a second
        left=0.15 / columns,
        right=1 - 0.05 / columns,
        bottom=0.18 / lines,
        top=1 - 0.12 / lines,
        wspace=0.25,
        hspace=0.5,
    )
    for axis, (name, points) in zip(axes, series.items(), strict=False):
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None, linewidth=1.2)
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
        lowest, highest = min(value for _, value in points), max(value for _, value in points)
        if name.startswith("train/") and lowest > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(_NUMBERS)
            axis.yaxis.set_minor_formatter(_NUMBERS if highest < 10 * lowest else NullFormatter())
    for axis in axes[len(series) :]:
        axis.remove()
    figure.savefig(picture, dpi=100)
