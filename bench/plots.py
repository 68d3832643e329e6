"""Bars of a run, one picture for each unit of each workload. Needs matplotlib (the extra `bench`)."""

from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"
_ROW_INCHES = 0.32


def draw(document: dict[str, Any], stem: str) -> list[str]:
    """Draw all figures; the paths of the pictures, which begin with `stem`."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for figure in document["figures"]:
        groups.setdefault((figure["workload"], figure["unit"]), []).append(figure)
    paths = []
    for (workload, unit), figures in groups.items():
        name = unit.replace("/", "-per-").removeprefix("-")
        paths.append(f"{stem}-{workload}-{name}.svg")
        _bars(workload, unit, figures, paths[-1])
    return paths


def _bars(workload: str, unit: str, figures: list[dict[str, Any]], path: str) -> None:
    shown = sorted(figures, key=lambda figure: figure["subject"] == "dfs")
    canvas, axes = pyplot.subplots(figsize=(9, 1 + _ROW_INCHES * len(shown)), layout="constrained")
    values = [figure["median"] for figure in shown]
    errors = [
        [figure["median"] - figure["low"] for figure in shown],
        [figure["high"] - figure["median"] for figure in shown],
    ]
    colours = [_OURS if figure["subject"] == "dfs" else _OTHERS for figure in shown]
    labels = [f"{figure['case']}  ({figure['subject']})" for figure in shown]
    axes.barh(labels, values, xerr=errors, color=colours, ecolor="#555555")
    if max(values) > 50 * max(min(values), 1e-9):
        axes.set_xscale("log")
    for place, figure in enumerate(shown):
        goal = figure.get("goal")
        if goal and goal["needed"]:
            axes.plot([goal["needed"]] * 2, [place - 0.4, place + 0.4], color="#c0392b", linewidth=2)
    better = shown[0]["better"]
    axes.set_title(f"{workload}: {unit}, {better} is better; whiskers: all rounds; red: what it must reach", fontsize=9)
    axes.tick_params(labelsize=8)
    canvas.savefig(path)
    pyplot.close(canvas)
