#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""report.py DIR GLUE: the results of the benchmark of mirrors, from the logs in DIR: output.log,
queues.log, parallel.log, npu.log. GLUE is what tools/lab/glue-lines printed last.

Prints the tables and whether the limits are kept, and leaves both as table.rst in DIR. Fails if
a log is not complete; a limit that is missed is a result like others.
"""

import pathlib
import re
import statistics
import sys

# Not the framework's work: bytes of bookkeeping that xe has for 2 MiB of a mirror.
XE = 8376
LARGE = 2 << 20


def table(rows):
    """A simple table of reStructuredText, which reads well as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join([row[0].ljust(widths[0])] +
                      [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
             for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


class Log:
    """What `svm` printed."""

    def __init__(self, text):
        if not re.search(r"^svm ended$", text, re.M):
            sys.exit("the benchmark did not come to its end")
        self.results, self.costs, self.spread = {}, {}, 0
        for m in re.finditer(r"^svm (\S+) (\S+) (\S+) (\d+) (\d+) (\d+)$", text, re.M):
            key = (m[1], m[2], m[3], int(m[4]))
            self.results.setdefault(key, []).append(int(m[6]) / int(m[5]))
        for m in re.finditer(r"^svm-cost (\S+) (\d+) (\d+)$", text, re.M):
            self.costs.setdefault(m[1], []).append(int(m[3]) / int(m[2]))
        self.costs = {what: statistics.median(all) for what, all in self.costs.items()}
        self.faults = {(m[1], m[2]): int(m[3])
                       for m in re.finditer(r"^svm-faults (\S+) (\S+) \d+ (\d+)$", text, re.M)}
        self.book = {}
        for m in re.finditer(r"^svm-book (\S+) (\d+) (\d+) (\d+)$", text, re.M):
            self.book.setdefault(m[1], []).append(tuple(map(int, m.group(2, 3, 4))))

    def get(self, what, side, kind, batch):
        """Instructions per page of 4 KiB: the middle of the repetitions."""
        return statistics.median(self.results[what, side, kind, batch])

    def spreads(self, side):
        """How far repetitions are apart, worst and usual."""
        spreads = [max(all) / min(all) - 1 for key, all in self.results.items() if key[1] == side]
        return max(spreads), statistics.median(spreads)


def migrations(log):
    """Rows of the first table, and (name, ratio) of each."""
    copy, ioctl = log.costs["copy"], log.costs["ioctl"]
    rows, ratios, off = [], [], 0
    for what, _, kind, batch in [key for key in log.results if key[1] == "gmem_vm-nocopy"
                                 and not key[0].startswith("fault")]:
        whole, ours = (log.get(what, side, kind, batch) for side in ("gmem_vm", "gmem_vm-nocopy"))
        off = max(off, abs(whole - copy - ours) / ours)
        theirs = all_of_it = log.get(what, "test_hmm", kind, batch)
        backing = "alloc" if what == "to-device" else "free"
        if what == "to-device":
            # What it reads back to verify is a READ, of which there is the call besides.
            theirs -= log.get("verify", "test_hmm", kind, batch) - ioctl / batch
        theirs -= copy
        strict = theirs - log.costs[f"{backing}-{'folio' if kind == 'folio' else 'page'}"]
        rows.append((f"{what}, {kind}", str(batch), f"{whole:.0f}", f"{all_of_it:.0f}",
                     f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.2f}",
                     f"{ours / strict:.2f}"))
        ratios.append((what, kind, batch, ours / theirs))
    return rows, ratios, off


def queues(counted, timed):
    """Rows of the third table."""
    pattern = r"^svm-queues (\S+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$"
    results = {}
    for name, log in (("counted", counted), ("timed", timed)):
        for m in re.finditer(pattern, log, re.M):
            results[name, m[1], int(m[2])] = (int(m[5]), int(m[6]), int(m[7]))
    for n in (1, 2, 4):
        row = [str(n)]
        for side in ("gmem_vm", "test_hmm"):
            faults, ticks, _ = results["counted", side, n]
            one = results["counted", side, 1]
            row += [f"{ticks / faults:.0f}", f"{ticks / faults / (one[1] / one[0]):.2f}"]
        for side in ("gmem_vm", "test_hmm"):
            faults, _, nanoseconds = results["timed", side, n]
            row.append(f"{faults / nanoseconds * 1e9:.0f}")
        yield tuple(row)


def bookkeeping(log):
    """Rows of the fourth table, and bytes for 2 MiB more of a folio on the device."""
    rows, more = [], {}
    for layout, ((small, _, least), (large, extents, most)) in log.book.items():
        more[layout] = (most - least) / ((large - small) / LARGE)
        rows.append((layout, f"{extents * LARGE / large:.0f}", f"{more[layout]:.0f}",
                     f"{most / (large / LARGE):.0f}", f"{more[layout] / XE:.2f}"))
    return rows, more


def main():
    """Reads the logs, writes the tables."""
    directory = pathlib.Path(sys.argv[1])
    text = {name: (directory / f"{name}.log").read_text(errors="replace")
            for name in ("output", "queues", "parallel", "npu")}
    log = Log(text["output"])
    rows, ratios, off = migrations(log)
    first = table([("4 KiB of", "batch", "gmem_vm", "test_hmm", "without copies", "test_hmm",
                    "ratio", "strict"), *rows])
    faults = []
    for what in ("fault-by-page", "fault-new-page", "fault-in-order"):
        batch = 16384 if what == "fault-in-order" else 1
        ours, theirs = (log.get(what, side, "page", batch) for side in ("gmem_vm-nocopy", "test_hmm"))
        faults.append((what, str(log.faults[what, "gmem_vm-nocopy"]),
                       str(log.faults[what, "test_hmm"]), f"{ours:.0f}", f"{theirs:.0f}",
                       f"{ours / theirs:.2f}"))
    second = table([("64 MiB", "faults", "test_hmm", "a page", "test_hmm", "ratio"), *faults])
    third = table([("queues", "gmem_vm", "to one", "test_hmm", "to one", "gmem_vm/s",
                    "test_hmm/s"), *queues(text["queues"], text["parallel"])])
    rows, more = bookkeeping(log)
    fourth = table([("2 MiB", "extents", "bytes more", "of 64 MiB", "to xe"), *rows])

    limits = []

    def limit(what, value, most, form="{:.2f}"):
        verdict = "ok" if value <= most else "MISSED"
        limits.append((what, form.format(value), form.format(most), verdict))

    contiguous = max(more[layout] for layout in ("host-folios", "device-folios", "device-pages"))
    limit("bytes of bookkeeping for a contiguous 2 MiB more", contiguous, 256, "{:.0f}")
    for what, kind, batch, ratio in ratios:
        limit(f"{what}, {kind}, batches of {batch}: ratio", ratio, 0.5 if kind == "folio" else 1.0)
    filled = re.search(r"^64 MiB filled for the first time: (\d+) faults", text["npu"], re.M)
    if not filled:
        sys.exit("npu touch did not say how many faults there were")
    limit("the NPU's faults for a first touch of 64 MiB", int(filled[1]), 32, "{}")
    lines = int(re.match(r"(\d+) lines", sys.argv[2])[1])
    limit("lines of the NPU's driver that name gmem_vm", lines, 99, "{}")
    fifth = table([("what", "is", "at most", ""), *limits])

    worst, usual = (max(log.spreads(side)[i] for side in ("gmem_vm", "gmem_vm-nocopy", "test_hmm"))
                    for i in (0, 1))
    notes = (f"A copy of 4 KiB takes {log.costs['copy']:.0f} instructions; allocating and freeing a page that "
             f"backs one of test_hmm's {log.costs['alloc-page']:.0f} and {log.costs['free-page']:.0f}.\n"
             f"gmem_vm with copies less the copies differs from gmem_vm without by {off:.1%} at most.\n"
             f"Repetitions differ by {usual:.1%} usually, by {worst:.1%} at most.\n")
    out = "\n".join([first, second, third, fourth, fifth, notes])
    print(out, end="")
    (directory / "table.rst").write_text(out)


main()
