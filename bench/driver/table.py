"""From the runs of a row to its figures, and from the figures to the table that is printed."""
import statistics

from driver.rows import NOT_IN_DEBIAN, Figures


def summary(row, runs, why):
    """What the JSON holds of a row. `kindred`, `peer` and `limit` are medians over the rounds, `times_*` medians of
    the ratios within each round; `runs` has every round."""
    figures = Figures(row, [run["figures"] for run in runs])
    medians, spreads, extras = figures.medians, {}, {}
    for name in medians:
        values = [run[name] for run in figures.runs if name in run]
        spreads[name] = (max(values) / min(values)) if min(values) > 0 else None
        seen = [run["extras"][name] for run in runs if name in run["extras"]]
        extras[name] = {key: statistics.median(one[key] for one in seen if key in one) for key in seen[0]}

    own = medians.get("kindred")
    peer, limit = figures.best("thread", "slots", "process", "logger", "library"), figures.best("limit")
    thread_peer, process_peer = figures.best("thread", "logger"), figures.best("process")
    times_limit = figures.times(limit)
    if limit is None and row.fixed_limit and own:
        times_limit = own / row.fixed_limit if row.better == "more" else row.fixed_limit / own
    reached = {}
    if row.goal is not None and own is not None:
        reached[f"goal {figure(row.goal, row.unit)}"] = own >= row.goal if row.better == "more" else own <= row.goal
    for words, condition in row.conditions:
        reached[words] = condition(figures)
    return {
        "name": row.name, "work": row.work, "group": row.group, "x": row.x, "unit": row.unit, "better": row.better,
        "kindred": own, "peer": medians.get(peer), "peer_name": peer, "limit": medians.get(limit, row.fixed_limit), "limit_name": limit,
        "thread_peer": medians.get(thread_peer), "thread_peer_name": thread_peer,
        "process_peer": medians.get(process_peer), "process_peer_name": process_peer,
        "times_peer": figures.times(peer), "times_process_peer": figures.times(process_peer), "times_limit": times_limit,
        "spread": spreads.get("kindred"), "goal": row.goal, "reached": reached, "note": row.note,
        "contestants": {c.name: {"kind": c.kind, "median": medians.get(c.name), "spread": spreads.get(c.name), "extras": extras.get(c.name, {}),
                                 **({"why": why[c.name]} if c.name in why else {})} for c in row.contestants},
        "runs": figures.runs,
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
            f"A ratio is the median of the ratios within each round; over 1, kindred is better. Spread is the largest round over the smallest.\n")


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
