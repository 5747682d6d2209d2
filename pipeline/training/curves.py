"""Draws metrics.csv: one panel per metric, so that a glance tells how a run went."""

from pathlib import Path

from matplotlib.figure import Figure

from pipeline.training.logs.metrics_csv import read_rows


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
    figure = Figure(figsize=(4.5 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, (name, points) in zip(axes, series.items(), strict=False):
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None, linewidth=1.2)
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
        if name.startswith("train/") and all(value > 0 for _, value in points):
            axis.set_yscale("log")
    for axis in axes[len(series) :]:
        axis.remove()
    figure.savefig(picture, dpi=100)
