"""From results.json to tables in Markdown and to plots.

python benchmarks/report.py RESULTS.json [FOLDER]

table.md has every figure; summary.md and overview.svg, a line for each of the README's rows,
have what each library costs for each of ours.

Each row was measured in one run, on one machine; which one it was is said where there are several.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

OURS = "coro-websocket"
README = Path(__file__).resolve().parent.parent / "README.md"
DOCS = README.parent / "docs" / "benchmarks"
COLOURS = {
    "C": "#888888",
    "coro-websocket": "#d62728",
    "coro-websocket batch": "#ff9896",
    "coro-websocket (zlib-ng)": "#ff9896",
    "coro-websocket (level 1)": "#e7969c",
    "picows": "#1f77b4",
    "picows (awaited)": "#aec7e8",
    "websockets": "#2ca02c",
    "aiohttp": "#9467bd",
    "websocket-rs": "#17becf",
    "websocket-client": "#8c564b",
}
# What runs ASGI applications, which has a row of its own.
ASGI_COLOURS = {
    f"uvicorn: {OURS}": COLOURS[OURS],
    "uvicorn: websockets-sansio": COLOURS["websockets"],
    "uvicorn: wsproto": "#98df8a",
    "granian": "#ff7f0e",
    "hypercorn": "#e377c2",
}


def cost(row: dict[str, Any], figure: dict[str, float]) -> float:
    """What is compared, less is better, in the unit of the row."""
    if "bytes" in figure:
        return figure["bytes"]
    if "delay" in figure:
        return figure["delay"] * 1e3
    return figure["cpu"] / figure["messages"] * 1e6


def unit(row: dict[str, Any]) -> str:
    """Of what is compared in a row."""
    if row["role"] == "memory":
        return "bytes per idle connection"
    if row["role"] == "delay":
        return "ms, the longest"
    what = {"setup": "connection", "broadcast": "message and receiver"}
    return f"CPU us per {what.get(row['work'], 'message')}"


def digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def medians(row: dict[str, Any]) -> dict[str, float]:
    """The median cost of each library on each loop, in a row."""
    return {
        who: statistics.median(cost(row, figure) for figure in figures)
        for who, figures in row["figures"].items()
    }


def best(row: dict[str, Any]) -> dict[str, float]:
    """The cost of each library on the loop that it is faster on."""
    found: dict[str, float] = {}
    for who, value in medians(row).items():
        library = who.rpartition(" / ")[0]
        found[library] = min(value, found.get(library, value))
    return found


def summary(results: dict[str, Any]) -> str:
    """What the others cost for each microsecond, or byte, of ours."""
    batch = f"{OURS} batch"
    shown = [batch, *(library for library in COLOURS if not library.startswith(OURS))]
    names = [OURS, *("`read.batch()`" if each == batch else each for each in shown)]
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    notes = []
    for row in results["rows"]:
        costs = best(row)
        if row["quick"] and OURS in costs:
            unit = " B" if row["role"] == "memory" else " us"
            cells = [f"{costs[each] / costs[OURS]:.2f}" if each in costs else "" for each in shown]
            lines.append(
                f"| {row['name']} | {digits(costs[OURS])}{unit} | " + " | ".join(cells) + " |"
            )
            same_level = costs.get(f"{OURS} (level 1)")
            if same_level and "aiohttp" in costs:
                notes.append(
                    f"{row['name']}: aiohttp compresses at level 1, the others at 6. At level 1 "
                    f"{OURS} takes {digits(same_level)} us, and aiohttp "
                    f"{costs['aiohttp'] / same_level:.2f} of that."
                )
    by_run: dict[int, list[str]] = {}
    for row in results["rows"]:
        if row["quick"]:
            by_run.setdefault(row["run"], []).append(row["name"])
    if len(by_run) > 1:
        notes += [f"{named(results['runs'][n])}: {'; '.join(by_run[n])}." for n in by_run]
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def described(results: dict[str, Any]) -> list[str]:
    """Of each run that rows are of, when, where and with which versions it was."""
    runs = [results["runs"][number] for number in dict.fromkeys(r["run"] for r in results["rows"])]
    lines = []
    for run in runs:
        machine = run["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        missing = f" Not installed: {', '.join(machine['missing'])}." if machine["missing"] else ""
        lines += [
            f"{'- ' if len(runs) > 1 else ''}Measured on {named(run)}: {machine['cores']} cores, "
            f"{machine['platform']}, Python {machine['python']}; {versions}. "
            f"{run['rounds'] * 3} rounds of {run['seconds']:g} s for the rows of the README, "
            f"{run['rounds']} for the others.{missing}"
        ]
    return lines


def named(run: dict[str, Any]) -> str:
    """What tells a run from the others."""
    return f"{run['machine']['date']}, {run['machine']['processor']}"


def table(results: dict[str, Any]) -> str:
    """Every row: median cost, its spread, the rate, and how it compares with ours."""
    lines = described(results)
    several = len(lines) > 1
    for row in results["rows"]:
        lines += ["", f"### {row['name']}", ""]
        if several:
            lines += [f"{named(results['runs'][row['run']])}.", ""]
        lines += [f"| | {unit(row)} | least to most | per second | ours / theirs |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |"]
        middle = medians(row)
        for who, figures in sorted(row["figures"].items(), key=lambda item: middle[item[0]]):
            costs = [cost(row, figure) for figure in figures]
            loop = who.rpartition(" / ")[2]
            under = "uvicorn: " if row["role"] == "uvicorn" else ""
            own = f"{under}{OURS} / {loop if loop != 'none' else 'asyncio'}"
            ratio = f"{middle[own] / middle[who]:.2f}" if own in middle else ""
            rate = ""
            if row["role"] == "delay":
                rate = digits(statistics.median(row["connections"] / f["wall"] for f in figures))
            elif row["role"] != "memory":
                per_second = statistics.median(f["messages"] / f["wall"] for f in figures)
                rate = digits(per_second)
            lines.append(
                f"| {who.removesuffix(' / none')} | {digits(middle[who])} | "
                f"{digits(min(costs))} to {digits(max(costs))} | {rate} | {ratio} |"
            )
        failed = [f"{who} ({why})" for who, why in row["failed"].items()]
        if failed:
            lines += ["", f"Failed: {'; '.join(failed)}."]
    return "\n".join(lines) + "\n"


def plots(results: dict[str, Any], folder: Path) -> list[Path]:
    """A bar chart for each row, and one of all that are in the README, as SVG and PNG."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot

    made = overview(results, folder, pyplot)
    for row in results["rows"]:
        bars = sorted((value, who) for who, value in medians(row).items())[::-1]
        if not bars:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 0.34 * len(bars) + 1.1))
        names = [who.removesuffix(" / none") for _, who in bars]
        values = [value for value, _ in bars]
        known = COLOURS | ASGI_COLOURS
        colours = [known.get(who.rpartition(" / ")[0], "#888888") for _, who in bars]
        drawn = axes.barh(names, values, color=colours)
        axes.bar_label(drawn, [digits(value) for value in values], padding=3, fontsize=8)
        axes.set_title(f"{row['name']}: {unit(row)} (less is better)", fontsize=10)
        axes.margins(x=0.12)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.tight_layout()
        made += saved(figure, folder, re.sub("[,:]? ", "-", row["name"]))
        pyplot.close(figure)
    return made


def overview(results: dict[str, Any], folder: Path, pyplot: Any) -> list[Path]:
    """What each library costs for each of ours, a group of bars for each row of the README."""
    rows = [row for row in results["rows"] if row["quick"] and OURS in best(row)][::-1]
    if not rows:
        return []
    shown = [library for library in COLOURS if library != "C" and not library.startswith(OURS)]
    height = 0.8 / len(shown)
    figure, axes = pyplot.subplots(figsize=(8, 0.75 * len(rows) + 1))
    for i, library in enumerate(shown):
        places, values = [], []
        for at, row in enumerate(rows):
            costs = best(row)
            if library in costs:
                places.append(at + 0.4 - height * (i + 0.5))
                values.append(costs[library] / costs[OURS])
        axes.barh(places, values, height, label=library, color=COLOURS[library])
    axes.axvline(1, color=COLOURS[OURS], linewidth=1.5, label=OURS)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.set_xlabel(f"cost, {OURS} = 1 (CPU per message, or memory; less is better)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=7, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    made = saved(figure, folder, "overview")
    pyplot.close(figure)
    return made


def saved(figure: Any, folder: Path, name: str) -> list[Path]:
    """The figure's files."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("svg", "png")]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=120, metadata=metadata)
    return paths


def write(results: dict[str, Any], folder: Path) -> None:
    """The table, the summary and the plots."""
    (folder / "table.md").write_text("# Every figure\n\n" + table(results))
    (folder / "summary.md").write_text(summary(results))
    plots(results, folder)


def publish(results: dict[str, Any]) -> None:
    """Put them into the README and the docs: of the plots, those of some rows."""
    chosen = [row for row in results["rows"] if row["quick"] or row.get("plot")]
    shown = {**results, "rows": chosen}
    DOCS.mkdir(exist_ok=True)
    plots(shown, DOCS)
    (DOCS / "table.md").write_text("# Every figure\n\n" + table(results))
    (DOCS / "results.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    text = README.read_text()
    of_readme = described({**results, "rows": [row for row in results["rows"] if row["quick"]]})
    before, start, rest = text.partition("<!-- benchmarks -->\n")
    _, end, after = rest.partition("<!-- end of benchmarks -->\n")
    measured = "\n".join(of_readme)
    README.write_text(f"{before}{start}{measured}\n\n{summary(results)}{end}{after}")


if __name__ == "__main__":
    source = Path(sys.argv[1])
    loaded = json.loads(source.read_text())
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent
    write(loaded, target)
