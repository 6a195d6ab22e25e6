"""From the runs of a row to its figures, and from the figures to the table that is printed."""
import statistics

from driver.rows import NOT_IN_DEBIAN, times


def summary(row, runs, why):
    """What the JSON holds of a row. `kindred`, `peer` and `limit` are medians over the rounds; `runs` has every round."""
    medians, spreads, extras = {}, {}, {}
    for contestant in row.contestants:
        values = [run["figures"][contestant.name] for run in runs if contestant.name in run["figures"]]
        if not values:
            continue
        medians[contestant.name] = statistics.median(values)
        spreads[contestant.name] = (max(values) / min(values)) if min(values) > 0 else None
        seen = [run["extras"][contestant.name] for run in runs if contestant.name in run["extras"]]
        extras[contestant.name] = {key: statistics.median(one[key] for one in seen if key in one) for key in seen[0]}

    def leader(*kinds):
        found = [c.name for c in row.contestants if c.kind in kinds and c.name in medians]
        return (max if row.better == "more" else min)(found, key=medians.get, default=None)

    peer, limit = leader("thread", "process", "logger", "library"), leader("limit")
    limit_median = medians.get(limit, row.fixed_limit)
    reached = {}
    if row.goal is not None and "kindred" in medians:
        reached[f"goal {figure(row.goal, row.unit)}"] = medians["kindred"] >= row.goal if row.better == "more" else medians["kindred"] <= row.goal
    for words, condition in row.conditions:
        answer = condition(medians | {"limit": limit_median}, row)
        reached[words] = answer
    return {
        "name": row.name, "work": row.work, "group": row.group, "x": row.x, "unit": row.unit, "better": row.better,
        "kindred": medians.get("kindred"), "peer": medians.get(peer), "peer_name": peer, "limit": limit_median, "limit_name": limit,
        "thread_peer": medians.get(leader("thread", "logger")), "thread_peer_name": leader("thread", "logger"),
        "process_peer": medians.get(leader("process")), "process_peer_name": leader("process"),
        "times_peer": times(row, medians, medians.get(peer)), "times_process_peer": times(row, medians, medians.get(leader("process"))),
        "times_limit": times(row, medians, limit_median),
        "spread": spreads.get("kindred"), "goal": row.goal, "reached": reached, "note": row.note,
        "contestants": {c.name: {"kind": c.kind, "median": medians.get(c.name), "spread": spreads.get(c.name), "extras": extras.get(c.name, {}),
                                 **({"why": why[c.name]} if c.name in why else {})} for c in row.contestants},
        "runs": [run["figures"] for run in runs],
    }


PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def figure(value, unit):
    """1234567 tasks/s as "1.23 M/s", 0.0042 ms as "0.0042 ms"."""
    if value is None:
        return "-"
    if unit.endswith("/s"):
        for size, prefix in PREFIXES:
            if value >= size:
                return f"{value / size:.3g} {prefix}/s"
        return f"{value:.3g} /s"
    if unit == "wake-ups":
        return f"{value:.0f}"
    return f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}"


def ratio(value):
    return "-" if value is None else f"{value:.2g}x" if value < 10 else f"{value:.0f}x"


def title(facts, command, rounds):
    return (f"{command}: medians of {rounds} interleaved rounds\n"
            f"{facts['processor']}, {facts['cores']} cores, {facts['virtual']}, Linux {facts['kernel']}, "
            f"load average {facts['load_average'][0]:.2f} before the run\n"
            f"A ratio over 1 means that kindred is better. Spread is the largest round over the smallest.\n")


COLUMNS = (("row", 26), ("kindred", 11), ("best peer", 29), ("ratio", 6), ("best process peer", 34), ("ratio", 6), ("limit", 11), ("ratio", 6),
           ("spread", 0))


class Printer:
    """Prints each row when it is measured."""

    def __init__(self):
        self.line(name for name, _ in COLUMNS)

    def line(self, cells):
        print("  ".join(f"{cell:{width}}" for cell, (_, width) in zip(cells, COLUMNS)).rstrip(), flush=True)

    def print(self, row):
        unit = row["unit"]

        def named(kind):
            return f"{figure(row[kind], unit)} {row[kind + '_name']}" if row[kind + "_name"] else "-"

        self.line((row["name"], figure(row["kindred"], unit), named("peer"), ratio(row["times_peer"]), named("process_peer"),
                   ratio(row["times_process_peer"]), figure(row["limit"], unit), ratio(row["times_limit"]), ratio(row["spread"])))
        own = row["contestants"].get("kindred", {})
        if own.get("median") is None and "why" in own:
            print(f"    kindred gave no figure: {own['why']}", flush=True)
        if row["reached"] and own.get("median") is not None:
            print("    " + ", ".join(f"{words}: {'reached' if answer else 'MISSED' if answer is False else 'cannot tell'}"
                                     for words, answer in row["reached"].items()), flush=True)


def closing(measured, seconds):
    """Every contestant of every row, then who was missing, then the goals."""
    lines = ["", "All contestants (median, and p99 where there is one):"]
    absent = {}
    for row in measured:
        parts = []
        for name, contestant in row["contestants"].items():
            if contestant["median"] is None:
                absent.setdefault((name, contestant.get("why", "")), []).append(row["name"])
                continue
            p99 = contestant["extras"].get("p99")
            parts.append(f"{name} {figure(contestant['median'], row['unit'])}" + (f" (p99 {figure(p99, row['unit'])})" if p99 is not None else ""))
        lines.append(f"  {row['name']}: " + "; ".join(parts))
    if absent:
        lines += ["", "MISSING or failed:"]
        for (name, why), names in sorted(absent.items()):
            hint = "; Debian does not package it: --peers FOLDER" if name in NOT_IN_DEBIAN and why.startswith("missing") else ""
            where = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            lines.append(f"  {name} in {where}: {why}{hint}")
    answers = [answer for row in measured for answer in row["reached"].values()]
    lines += ["", f"{sum(answer is True for answer in answers)} goals reached, {sum(answer is False for answer in answers)} missed, "
                  f"{sum(answer is None for answer in answers)} cannot be told here; {len(measured)} rows in {seconds:.0f} s"]
    return "\n".join(lines)
