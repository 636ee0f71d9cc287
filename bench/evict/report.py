#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""report.py DIR RATIOS: the results of the benchmark of eviction, from the files in DIR: for each ratio
RATIO.log, what the loads printed, and RATIO.belady, the optimum for what they accessed;
tenants.log; and killed.log.

Prints the tables and whether the limits are kept, and leaves both as table.rst in DIR. Fails if
a log is not complete; a limit that is missed is a result like others.
"""

import math
import pathlib
import re
import statistics
import sys

OURS, PEER = "lirs", "uvm"
POLICIES = ("lirs", "lru", "uvm", "gmem")
# Loads that write nothing.
READERS = ("sequential", "cyclic", "strided", "moe")


def table(rows):
    """A simple table of reStructuredText, which reads well as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join([row[0].ljust(widths[0])] +
                      [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
             for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def figures(line):
    """The key=value pairs of a line."""
    return dict(re.findall(r"(\S+)=(\S+)", line))


def read_log(path):
    """[(words after "run", figures of the last line of its output)]."""
    text = path.read_text(errors="replace")
    if not re.search(r"^ended$", text, re.M):
        sys.exit(f"{path.name}: the benchmark did not come to its end")
    runs = []
    for part in re.split(r"^run ", text, flags=re.M)[1:]:
        lines = [line for line in part.splitlines() if line.startswith("workload=")]
        if not lines:
            sys.exit(f"{path.name}: no result of {part.splitlines()[0]}")
        runs.append((part.splitlines()[0].split(), figures(lines[-1])))
    return runs


def read_belady(path):
    """Bytes moved by the optimum, in order of the runs."""
    found = re.findall(r"^run \d+:.* to_device (\d+) to_host (\d+)", path.read_text(), re.M)
    return [int(to_device) + int(to_host) for to_device, to_host in found]


class Run:
    """One load with one policy."""

    def __init__(self, result, best, policy):
        self.best = best
        self.moved = int(result["to_device"]) + int(result["to_host"])
        # What was written and is left in the end. Those that copy all cannot tell it from the rest: for
        # them it counts as nothing.
        self.moved += int(result["left"]) if policy in (OURS, "lru") else 0
        self.to_host = int(result["to_host"])
        self.faults, self.refaults = int(result["faults"]), int(result["refaults"])


def mean(values):
    """The geometric mean."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def verdict(what, value, limit):
    """A row of the last table."""
    if math.isnan(value):
        return [what, "not measured", f"{limit:.2f}", "-"]
    return [what, f"{value:.3f}", f"{limit:.2f}", "ok" if value <= limit else "MISSED"]


def moved_table(runs, keys):
    """Bytes moved, as ratios to the optimum."""
    rows = [["load", "data", "optimum, MiB", *POLICIES, f"{OURS} to {PEER}"]]
    for load, ratio in keys:
        of = {policy: runs.get((load, ratio, policy)) for policy in POLICIES}
        best = of[OURS].best
        rows.append([load, ratio, f"{best / 2**20:.1f}",
                     *(f"{run.moved / run.best:.3f}" if run else "" for run in of.values()),
                     f"{of[OURS].moved / of[PEER].moved:.3f}"])
    return table(rows)


def faults_table(runs, keys):
    """Faults and blocks that came back."""
    rows = [["load", "data", f"faults, {OURS}", PEER, f"came back, {OURS}", PEER]]
    for load, ratio in keys:
        ours, peer = runs[load, ratio, OURS], runs[load, ratio, PEER]
        rows.append([load, ratio, str(ours.faults), str(peer.faults), str(ours.refaults),
                     str(peer.refaults)])
    return table(rows)


def tenants_table(path):
    """The victim beside others: its time and what came to the device for it, in MiB."""
    runs = {(words[2], words[1]): result for words, result in read_log(path)}
    others = ("alone", "neighbour", "aggressor")
    rows = [["policy", *(f"{other}, s" for other in others), "ratio",
             *(f"{other}, MiB" for other in others)]]
    slowdown = math.nan
    for policy in POLICIES:
        of = [runs[policy, other] for other in others]
        ratio = float(of[2]["seconds"]) / float(of[1]["seconds"])
        slowdown = ratio if policy == OURS else slowdown
        rows.append([policy, *(run["seconds"] for run in of), f"{ratio:.2f}",
                     *(f"{int(run['to_device']) / 2**20:.1f}" for run in of)])
    return table(rows), slowdown


def killed(path):
    """Seconds that processes which are killed take to end, by policy."""
    text = path.read_text(errors="replace")
    if not re.search(r"^ended$", text, re.M):
        sys.exit(f"{path.name}: the benchmark did not come to its end")
    found = {}
    for policy, micros in re.findall(r"^killed (\S+) (\d+)$", text, re.M):
        found.setdefault(policy, []).append(int(micros) / 1e6)
    return found


def main():
    directory, ratios = pathlib.Path(sys.argv[1]), sys.argv[2].split()
    runs = {}
    for ratio in ratios:
        results = read_log(directory / f"{ratio}.log")
        best = read_belady(directory / f"{ratio}.belady")
        if len(best) != len(results):
            sys.exit(f"{ratio}: {len(results)} runs, but {len(best)} in the trace")
        for (words, result), moved in zip(results, best):
            runs[words[1], words[0], words[2]] = Run(result, moved, words[2])
    keys = list(dict.fromkeys((load, ratio) for load, ratio, _ in runs))
    tenants, slowdown = tenants_table(directory / "tenants.log")

    waits = killed(directory / "killed.log")
    rows = [["policy", "processes", "middle, s", "longest, s"]]
    for policy, times in waits.items():
        rows.append([policy, str(len(times)), f"{statistics.median(times):.3f}", f"{max(times):.3f}"])
    waits_table = table(rows)

    near = [runs[key + (OURS,)] for key in keys
            if key[0] in ("gemm", "transformer") and float(key[1]) >= 1.25]
    beside = {key: runs[key + (OURS,)].moved / runs[key + (PEER,)].moved for key in keys}
    readers = [runs[key + (OURS,)] for key in keys if key[0] in READERS]
    limits = table([
        ["Must reach", "measured", "limit", ""],
        verdict("bytes to the optimum's, transformer and gemm from 1.25 on, worst",
                max((run.moved / run.best for run in near), default=math.nan), 1.15),
        verdict(f"bytes to {PEER}'s, all from 2 on, mean",
                mean(value for key, value in beside.items() if float(key[1]) >= 2), 0.6),
        verdict(f"bytes to {PEER}'s, all, worst", max(beside.values()), 1.05),
        verdict("MiB to the host of data that is only read",
                sum(run.to_host for run in readers) / 2**20, 0.1),
        verdict("longest wait of a process that is killed, seconds", max(waits[OURS]), 1),
        verdict("two processes: the victim's time to that beside one that fits", slowdown, 1.2),
    ])
    text = (
        "Bytes moved, both ways, to those of Belady's optimum for the same accesses. At the end "
        "all that was written goes back to the host, but for uvm and gmem, which cannot tell it from the rest:\n\n"
        f"{moved_table(runs, keys)}\nFaults, and blocks that came back after they were evicted:\n\n"
        f"{faults_table(runs, keys)}\nA process that goes through 0.45 of the memory: alone, beside a neighbour that "
        "does the same, and beside an aggressor that goes through four times the memory. The ratio is that of "
        f"the last two:\n\n{tenants}\nHow long a process takes to end that is killed while it goes at random "
        f"through eight times the memory:\n\n{waits_table}\n{limits}")
    print(text)
    (directory / "table.rst").write_text(text)


main()
