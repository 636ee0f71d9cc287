#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""report.py LOG FLUSHES DIR: the bind benchmark's results, from the guest's kernel log
and from what `npu remap` printed.

Prints two tables and leaves them as table.rst in DIR, with plot.svg: instructions per
operation over the number of mappings. Fails if a log is not complete, or if the two
sides did not end with the same pages mapped.
"""

import math
import pathlib
import re
import sys
from collections import namedtuple

SIDES = ("gmem_vm", "drm_gpuvm")
COLOURS = {"gmem_vm": "#0b6e99", "drm_gpuvm": "#c2571a"}
PANELS = (
    ("map and unmap of a page", (("pair", ""), ("churn", "6 4"))),
    ("lookup of a page", (("lookup", ""), ("lookup-miss", "6 4"))),
)
HEADER = ("trace", "mappings", "operations", "gmem_vm", "drm_gpuvm", "ratio",
          "gmem_vm B", "drm_gpuvm B", "ratio")
ABOUT = f"""\
Instructions per operation and bytes of host memory per mapping, of gmem_vm's
mapping tree and of drm_gpuvm, and the ratios of the first to the second. An
operation of ``pair`` and ``churn`` is a map and an unmap. Bytes are per mapping
that drm_gpuvm has, since gmem_vm merges those that continue each other. No page
table on either side; ``bench/bind`` has the details.
"""

FLUSHES_ABOUT = """\
TLB flushes per thousand operations of ``random-remap``, given in arrays of so many
operations: those that the NPU counted; and what drivers over ``drm_gpuvm`` do, which
leaves it to them: one for each operation that took something away there (panthor), or one
for each ioctl (xe).
"""

Row = namedtuple("Row", "instructions mappings bytes digest")


def parse(log):
    """{(trace, n, ops): {side: Row}}, in the order of the log."""
    text = log.read_text(errors="replace")
    if not re.search(r"bind ended: 0$", text, re.M):
        sys.exit("the benchmark did not come to its end")
    results = {}
    pattern = rf"bind ({'|'.join(SIDES)}) (\S+) (\d+) (\d+) (\d+) (\d+) (\d+) ([0-9a-f]+)$"
    for match in re.finditer(pattern, text, re.M):
        key = (match[2], int(match[3]), int(match[4]))
        results.setdefault(key, {})[match[1]] = Row(*map(int, match.group(5, 6, 7)), match[8])
    for (trace, n, _), sides in results.items():
        if len(sides) != len(SIDES) or len({row.digest for row in sides.values()}) != 1:
            sys.exit(f"{trace} with {n} mappings: the sides disagree on what is mapped")
    return results


def cells(results):
    """The table's rows, as text."""
    for (trace, n, ops), sides in results.items():
        gmem, gpuvm = (sides[side] for side in SIDES)
        yield (trace, f"{n}", f"{ops}",
               f"{gmem.instructions / ops:.0f}", f"{gpuvm.instructions / ops:.0f}",
               f"{gmem.instructions / gpuvm.instructions:.2f}",
               f"{gmem.bytes / gpuvm.mappings:.1f}", f"{gpuvm.bytes / gpuvm.mappings:.1f}",
               f"{gmem.bytes / gpuvm.bytes:.2f}")


def flushes(log, counted):
    """The rows of the second table, as text."""
    text = log.read_text(errors="replace")
    match = re.search(r"bind-replaced drm_gpuvm random-remap (\d+) (\d+)$", text, re.M)
    gpuvm = 1000 * int(match[2]) / int(match[1])
    pattern = r"(\d+) operations in arrays of (\d+): (\d+) TLB invalidations"
    found = re.findall(pattern, counted.read_text(errors="replace"))
    if not found:
        sys.exit("npu remap did not say how many TLB invalidations there were")
    for ops, array, invalidations in found:
        gmem = 1000 * int(invalidations) / int(ops)
        ioctls = 1000 * math.ceil(int(ops) / int(array)) / int(ops)
        yield (array, f"{gmem:.1f}", f"{gpuvm:.1f}", f"{ioctls:.1f}")


def table(rows):
    """A simple table of reStructuredText, which reads well as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join([row[0].ljust(widths[0])] +
                      [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
             for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def panel(results, title, series, left):
    """One set of axes: instructions per operation over mappings, the latter by decades."""
    width, height, top = 360, 240, 50
    points = {}
    for (trace, n, ops), sides in results.items():
        for side in SIDES:
            points.setdefault((trace, side), []).append((n, sides[side].instructions / ops))
    shown = [point for trace, _ in series for side in SIDES for point in points[trace, side]]
    # A round number of instructions between the lines of the grid.
    highest = max(y for _, y in shown)
    unit = 10 ** math.floor(math.log10(highest))
    unit = next(step for step in (unit / 5, unit / 2, unit) if highest / step <= 7)
    ceiling = math.ceil(highest / unit) * unit
    first, last = (math.log10(f(x for x, _ in shown)) for f in (min, max))

    def at(x, y):
        return (left + (math.log10(x) - first) / (last - first) * width,
                top + height - y / ceiling * height)

    out = [f'<text x="{left}" y="{top - 18}" class="title">{title}</text>']
    for i in range(round(ceiling / unit) + 1):
        _, y = at(10 ** first, i * unit)
        out.append(f'<path d="M{left} {y:.1f}h{width}" class="grid"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{i * unit:.0f}</text>')
    for x in sorted({x for x, _ in shown}):
        label = f"{x // 1000000} M" if x >= 1000000 else f"{x // 1000} k"
        out.append(f'<text x="{at(x, 0)[0]:.1f}" y="{top + height + 18}" '
                   f'text-anchor="middle">{label}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 38}" '
               'text-anchor="middle">mappings</text>')
    for trace, dash in series:
        for side in SIDES:
            line = [at(*point) for point in sorted(points[trace, side])]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
            colour = COLOURS[side]
            out.append(f'<polyline points="{path}" stroke="{colour}" stroke-dasharray="{dash}"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in line]
    y = top + height + 62
    for i, (trace, dash) in enumerate(series):
        for j, side in enumerate(SIDES):
            x, row = left + j * 190, y + i * 18
            out.append(f'<path d="M{x} {row - 4}h28" stroke="{COLOURS[side]}" stroke-width="2" '
                       f'stroke-dasharray="{dash}"/>')
            out.append(f'<text x="{x + 34}" y="{row}">{side}, {trace}</text>')
    return out


def plot(results):
    """Both panels, as one SVG."""
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="960" height="390">',
           "<style>text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold }",
           ".grid { stroke: #ddd } polyline { fill: none; stroke-width: 2 }</style>",
           '<rect width="100%" height="100%" fill="white"/>']
    for i, (title, series) in enumerate(PANELS):
        out += panel(results, f"instructions for one {title}", series, 70 + 460 * i)
    return "\n".join([*out, "</svg>", ""])


def main():
    """Reads the log, writes both files."""
    log, counted, directory = map(pathlib.Path, sys.argv[1:])
    results = parse(log)
    text = table([HEADER, *cells(results)])
    header = ("array", "gmem_vm", "each operation", "each ioctl")
    second = table([header, *flushes(log, counted)])
    print(f"{text}\n{second}", end="")
    (directory / "table.rst").write_text(
        f"{ABOUT}\n{text}\n.. image:: plot.svg\n\n{FLUSHES_ABOUT}\n{second}")
    (directory / "plot.svg").write_text(plot(results))


main()
