"""Every row: the work, who does it, in which unit, and what is to be reached."""
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from driver.contestant import Contestant

MIB = 1 << 20
METHODS = ("fork", "forkserver", "spawn")

# Peers that Debian packages are always expected. Those of the second group are measured where --peers names a folder that has them.
THREAD_POOLS = {"oneTBB": "tbb", "Boost.Asio": "asio", "std::thread pool": "std", "libthread-pool": "rvaser",
                "BS::thread_pool": "bs", "Taskflow": "taskflow"}
PROCESS_POOLS = {"CPython": "cpython", "mp.Pool": "mp_pool", "loky": "loky", "pebble": "pebble", "billiard": "billiard", "mpi4py": "mpi4py"}
NOT_IN_DEBIAN = {"BS::thread_pool", "Taskflow", "quill", "fmtlog"}


FAR = 7  # the scatter of those in a row with close ones that are not


@dataclass
class Row:
    name: str
    work: str
    unit: str
    better: str  # "more" or "less"
    contestants: list
    goal: float | None = None       # of the issue, in `unit`
    conditions: list = field(default_factory=list)  # (words, function of the row's `Figures`) for goals in bold
    group: str = "main"             # main, workers, growth, headers, shared
    x: float | None = None          # where it lies on its plot
    timeout: float = 60.0
    note: str = ""
    together: bool = False  # the contestants rest, so they can do it at once
    fixed_limit: float | None = None  # a limit that is counted, not measured
    scatter: int = 1  # rounds are so many times as many, for what is short and differs much from run to run (process pools of other languages do not)
    close: tuple = ()  # who takes part in all of those, where the others need not: those that are told apart by little, or that a goal names
    figure: str = ""  # which of the figures that a program prints is compared; "": its value
    hogs: bool = False  # each core has a program that never sleeps beside the contestant
    warmed: bool = True  # memory is warmed before each contestant (support/warm_up.cpp)

    def takes_part(self, contestant, number):
        """Those that take part in fewer rounds do so in each nth: all of them meet the same noise."""
        if contestant.name in self.close:
            often = self.scatter
        elif contestant.kind == "process":
            often = 1
        else:
            often = min(self.scatter, FAR) if self.close else self.scatter
        return number % (self.scatter // often) == 0


def words(**arguments):
    result = []
    for name, value in arguments.items():
        result += ["--" + name, str(value)]
    return tuple(result)


def floor(program, name="limit", reading="printed", /, **arguments):
    return Contestant(name, "limit", (f"{{build}}/floor_{program}",) + words(**arguments), reading)


def kindred(program, reading="printed", /, **arguments):
    return Contestant("kindred", "kindred", (f"{{build}}/kindred_{program}",) + words(**arguments), reading)


def thread_pools(reading="printed", **arguments):
    return [Contestant(name, "thread", (f"{{build}}/peer_pool_{pool}",) + words(**arguments), reading) for name, pool in THREAD_POOLS.items()]


def slots(*names, **arguments):
    """Thread pools that write a result into a slot, and have no futures: a kind of peer of their own, since they promise less."""
    programs = {"oneTBB task_group": "tbb", "moodycamel + slots": "moodycamel"}
    return [Contestant(name, "slots", (f"{{build}}/peer_slots_{programs[name]}",) + words(**arguments)) for name in names or programs]


def process_pool(name, reading="printed", **arguments):
    pool = {**PROCESS_POOLS, "joblib": "joblib"}[name]
    script = ("{bench}/peers/python_pools.py",) + words(pool=pool, **arguments)
    if pool != "mpi4py":
        return Contestant(name, "process", ("/usr/bin/python3",) + script, reading)
    # One rank more than workers: the first is the caller. Root is what a container runs as.
    environment = (("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"))
    ranks = str(int(arguments.get("workers", 2)) + 1)
    return Contestant(name, "process", ("mpiexec", "--oversubscribe", "-n", ranks, "/usr/bin/python3", "-m", "mpi4py.futures") + script,
                      reading, environment)


def process_pools(names=tuple(PROCESS_POOLS), reading="printed", **arguments):
    return [process_pool(name, reading, **arguments) for name in names]


def process_loggers(count, workers):
    found = [Contestant(label, "process", ("{build}/peer_process_logger",) + words(logger=logger, count=count, workers=workers))
             for label, logger in (("Boost.Interprocess queue", "interprocess"), ("spdlog appending", "spdlog_append"),
                                   ("Boost.Log ipc", "boost_log_ipc"))]
    # Faster because it may: it tears lines, so it is shown and is no peer.
    return found + [Contestant("spdlog appending, buffered", "unsound", ("{build}/peer_process_logger",) +
                               words(logger="spdlog_buffered", count=count, workers=workers))]


def loggers(row, count, workers, python_count):
    arguments = dict(row=row, count=count, workers=workers)
    single = [Contestant("spdlog st", "logger", ("{build}/peer_logger_spdlog",) + words(logger="st", **arguments))]
    found = [*(single if workers == 1 and row == "log_records" else []),
             Contestant("spdlog sync", "logger", ("{build}/peer_logger_spdlog",) + words(logger="sync", **arguments)),
             Contestant("spdlog async", "logger", ("{build}/peer_logger_spdlog",) + words(logger="async", **arguments)),
             Contestant("quill", "logger", ("{build}/peer_logger_quill",) + words(**arguments)),
             Contestant("fmtlog", "logger", ("{build}/peer_logger_fmtlog",) + words(**arguments))]
    for name, logger in (("logging + queue", "stdlib"), ("loguru enqueue", "loguru")):
        found.append(Contestant(name, "process", ("/usr/bin/python3", "{bench}/peers/python_loggers.py") +
                                words(logger=logger, row=row, count=python_count, workers=workers)))
    return found


class Figures:
    """What the rounds of a row say: the median of each contestant, and how kindred compares, which is judged within each round: what one
    met in this minute says little of what another met in the next."""

    def __init__(self, row, runs):
        self.row, self.runs = row, runs
        self.medians = {}
        for contestant in row.contestants:
            if values := [run[contestant.name] for run in runs if contestant.name in run]:
                self.medians[contestant.name] = statistics.median(values)

    def best(self, *kinds):
        """The contestant of these kinds with the best median, or nothing."""
        names = [c.name for c in self.row.contestants if c.kind in kinds and c.name in self.medians]
        return (max if self.row.better == "more" else min)(names, key=self.medians.get, default=None)

    def times(self, name):
        """How many times better kindred is than a contestant: the median over the rounds in which both gave a figure. Nothing without one."""
        pairs = [(run["kindred"], run[name]) for run in self.runs if run.get("kindred") and run.get(name)]
        return statistics.median(own / other if self.row.better == "more" else other / own for own, other in pairs) if pairs else None


def at_least(factor, words_of_it, *kinds, name=None):
    """A condition: kindred is `factor` times as good as the contestant of that name, or as the best of these kinds."""
    def reached(figures):
        ratio = figures.times(name or figures.best(*kinds))
        return None if ratio is None else ratio >= factor
    return (words_of_it, reached)


def at_most_beyond_limit(most, words_of_it):
    """A condition: kindred takes at most so much more than the limit."""
    def reached(figures):
        own, limit = figures.medians.get("kindred"), figures.medians.get("limit")
        return None if own is None or limit is None else own - limit <= most
    return (words_of_it, reached)


def tasks_row(name, work, us, count, python_count, goal=None, workers=2, submitters=1, **more):
    # Iterations are filled in by the driver, so that each contestant's microsecond is the same.
    arguments = dict(row="tasks", count=count, workers=workers, iterations=f"{{iterations_{us}us}}" if us else 0)
    limit = floor("ring", row="one_way", count=count * 20) if us == 0 and workers <= 2 else floor("ring", **arguments)
    return Row(name, work, "tasks/s", "more",
               [limit, kindred("tasks", submitters=submitters, **arguments), *thread_pools(submitters=submitters, **arguments),
                *(slots(submitters=submitters, **arguments) if more.get("group", "main") == "main" else []),
                *process_pools(more.pop("process", tuple(PROCESS_POOLS)), row="tasks", count=python_count, workers=workers, work_us=us)],
               goal, **more)


def processor_rows(n):
    """What a task and a record cost in processor time, of all processes: the programs of other rows print it beside their speed."""
    def tasks(name, work, us, count, python_count, **more):
        arguments = dict(row="tasks", count=count, workers=2, iterations=f"{{iterations_{us}us}}" if us else 0)
        # Not mpi4py: its workers are children of mpiexec.
        python = tuple(name for name in PROCESS_POOLS if name != "mpi4py")
        return Row(name, work, "us", "less",
                   [kindred("tasks", **arguments), *thread_pools(**arguments), *slots(**arguments),
                    *process_pools(python, row="tasks", count=python_count, workers=2, work_us=us)], figure="cpu_us",
                   note="the start and the end of the pool are in it", **more)
    return [tasks("cpu_task_empty", "processor time of an empty task, all processes; submit all, then get all; 2 workers", 0, 1_000_000, n(20_000)),
            tasks("cpu_task_10us", "processor time of a task of 10 us, all processes; 2 workers", 10, n(100_000), n(20_000), fixed_limit=10),
            Row("cpu_record", "processor time of a record until it is in a file, all processes; 2 producing", "us", "less",
                [kindred("log_records", count=n(400_000), workers=2), *loggers("log_records", n(200_000), 2, n(5_000)),
                 *process_loggers(n(200_000), 2)], figure="cpu_us", note="the start and the end of pool, threads or processes are in it")]


def word_count_rows():
    """The main job. It is the same in a quick run, which has the default start method only: a smaller tree would measure how programs start."""
    def counter(name, kind, of, method):
        return Contestant(name, kind, ("/usr/bin/python3", "{bench}/driver/word_count.py") +
                          words(counter=of, build="{build}", path="/usr/include", workers=2, **{"start-method": method}))
    return [Row(f"word_count_{method}", f"the words of all files in /usr/include, listed and counted, whole program, {method}; 2 workers", "s", "less",
                [counter("one thread / 2", "limit", "one_thread", method), counter("kindred", "kindred", "kindred", method),
                 counter("OpenMP", "thread", "openmp", method), counter("xargs -P", "process", "xargs", method),
                 counter("CPython", "process", "cpython", method)], timeout=180.0, group="main" if method == "forkserver" else "word_count",
                note="kindred: a crash costs one file and is told, results have types, what workers log is one log. OpenMP: a crash of the counting code "
                     "ends the program. xargs with wc: totals only, not the commonest words; results are text, a batch that fails is an exit status, a "
                     "process is started for each batch. CPython: a crash breaks the pool, and all that has not ended fails")
            for method in METHODS]


def main_rows(scale):
    """`scale` shortens the work of a quick run."""
    def n(count, least=1):
        return max(least, int(count * scale))

    # What a program of ours does in a tenth of a second is not shortened: a quick run would measure how it starts.
    rows = [
        tasks_row("tasks_empty", "empty tasks with futures, submit all, then get all; 2 workers", 0, 300_000, n(4_000), 3e6, conditions=[
            at_least(3, "3x the best thread pool with futures", "thread"),
            at_least(300, "300x CPython", name="CPython")], scatter=9, close=("CPython",)),
        tasks_row("tasks_1us", "the same, 1 us of work each", 1, 200_000, n(4_000), 1.2e6),
        tasks_row("tasks_10us", "the same, 10 us of work each", 10, 50_000, n(4_000), 150e3),
        tasks_row("tasks_10us_beside_hogs", "the same while a program that never sleeps runs on each core", 10, n(50_000), n(4_000),
                  process=("CPython", "mp.Pool"), hogs=True, scatter=3),
        tasks_row("tasks_empty_four", "empty tasks, submitted by 4 threads at once, each gets its own; 2 workers", 0, 300_000, 0, process=(), submitters=4),
    ]

    # A second each: what a trace costs comes twenty times a second. A loss of a hundredth is told from nothing by bench/watched_cpu.
    watched = dict(row="tasks", count=200_000, workers=2, iterations="{iterations_10us}")
    for name, words_of_it, least, more in (("looked_at", "somebody looks at the pool", 0.99, dict(watched=1)),
                                            ("traced", "a trace is written", 0.98, dict(trace="{build}/trace.json"))):
        rows.append(Row(f"{name}_tasks_10us", f"tasks of 10 us while {words_of_it}; the limit: the same without; 2 workers", "tasks/s", "more",
                        [Contestant("limit", "limit", ("{build}/kindred_tasks",) + words(**watched)), kindred("tasks", **watched, **more)],
                        None, [at_least(least, f"{1 - least:.0%} lost at most", name="limit")]))

    def round_trips(name, work, row, count, python_count, floors, goal, conditions, python, scatter=1, others=()):
        arguments = dict(row=row, workers=2)
        return Row(name, work, "us", "less",
                   [*floors, kindred("round_trip", count=count, **arguments), *thread_pools(count=count, **arguments), *others,
                    *process_pools(python, count=python_count, **arguments)], goal, conditions, note="p50; p99 beside it", scatter=scatter)
    rows += [
        round_trips("round_trip", "one round trip after another, p50", "round_trip", 200_000, n(500, 100),
                    [floor("ring", row="round_trip", count=500_000)], 1.0, [], tuple(PROCESS_POOLS),
                    others=slots("moodycamel + slots", row="round_trip", count=200_000, workers=2)),
        round_trips("round_trip_after_silence", "a round trip after 1-3 ms of silence, p50", "round_trip_after_silence", n(300, 50), n(100, 30),
                    [floor("wake", "spin with yield", how="yield", count=n(300, 50)), floor("wake", "spin with pause", how="pause", count=n(300, 50)),
                     floor("wake", "futex", how="futex", count=n(300, 50)), floor("wake", "eventfd", how="eventfd", count=n(300, 50))], None,
                    [at_least(1, "as the best thread pool, or better", "thread")], ("CPython", "mp.Pool", "loky"), scatter=3),
        Row("round_trip_beside_hogs", "round trips while a program that never sleeps runs on each core, mean", "us", "less",
            [floor("wake", "futex", how="futex", silent=0, count=20_000), kindred("round_trip", count=20_000, workers=2),
             *thread_pools(row="round_trip", count=20_000, workers=2),
             *process_pools(("CPython", "mp.Pool"), row="round_trip", count=n(500, 100), workers=2)], 15,
            [at_least(0.5, "at worst 2x the best thread pool", "thread")], note="p99 beside it", scatter=3, figure="mean", hogs=True),
        Row("round_trip_after_silence_beside_hogs", "a round trip after 1-3 ms of silence while a program that never sleeps runs on each core, p50", "us", "less",
            [floor("wake", "futex", how="futex", count=n(300, 50)), kindred("round_trip", row="round_trip_after_silence", count=n(300, 50), workers=2),
             *thread_pools(row="round_trip_after_silence", count=n(300, 50), workers=2),
             *process_pools(("CPython", "mp.Pool"), row="round_trip_after_silence", count=n(100, 30), workers=2)], None,
            [at_least(0.5, "at worst 2x the best thread pool", "thread")], note="p50; p99 beside it", scatter=3, hogs=True),
        Row("tasks_after_priority", "empty tasks after one task has had a priority; the limit: the same without; 2 workers", "tasks/s", "more",
            [Contestant("limit", "limit", ("{build}/kindred_tasks",) + words(row="tasks", count=300_000, workers=2, iterations=0)),
             kindred("tasks", row="tasks", count=300_000, workers=2, iterations=0, priority=1)], None,
            [at_least(1 / 1.2, "at most 1.2x slower", name="limit")]),
        Row("million_timeouts", "a million empty tasks with a timeout that all end in time, submit all, then get all; the limit: the same without; "
            "2 workers", "tasks/s", "more",
            [kindred("tasks", count=1_000_000, workers=2).renamed("without", "limit"),
             kindred("tasks", count=1_000_000, timeout=600, workers=2)], None,
            [at_least(1 / 1.2, "at most 1.2x slower", name="limit")], scatter=3),
        Row("throw", "submit and get of a task that throws, one after another, p50", "us", "less",
            [kindred("endings", row="throw", count=10_000, workers=2), *thread_pools(row="throw", count=10_000, workers=2)], None,
            note="a thread pool hands the exception over as a pointer; kindred, as a value with its type, from another process"),
        Row("cancel", "cancel of a pending task, among 100,000", "ns", "less", [kindred("endings", row="cancel", count=100_000)], None,
            note="the futures of the thread pools cannot be cancelled"),
        Row("death", "a task ends its only worker: from its submit to the result of the next task, p50", "ms", "less",
            [kindred("endings", row="death", count=100)], 0.4, note="a thread pool ends with such a task"),
        Row("crashing_10_percent", "tasks of which one in ten ends its worker, submit all, then get all; the results of the other nine are checked; 2 "
            "workers", "tasks/s", "more",
            [kindred("endings", row="crashing", count=1_000, workers=2),
             process_pool("pebble", row="crashing", count=n(200, 100), workers=2),
             process_pool("billiard", row="crashing", count=100, workers=2)],
            note="pebble and billiard are the only peers that go on; billiard waits ten seconds before it gives a lost task up. CPython and loky "
                 "break, mp.Pool waits for ever for the lost task, a thread pool ends with its program"),
        Row("map_heavy_tailed", "map over 10,000 items of 20 us, of which one in a hundred takes 2 ms; 2 workers", "ms", "less",
            [floor("heavy_map", items=10_000, iterations="{iterations_20us}", count=n(5, 3), workers=2),
             kindred("map_heavy", items=10_000, iterations="{iterations_20us}", count=n(5, 3), workers=2),
             *thread_pools(row="map_heavy_tailed", items=10_000, iterations="{iterations_20us}", count=n(5, 3), workers=2),
             *process_pools((*PROCESS_POOLS, "joblib"), row="map_heavy_tailed", items=10_000, count=2, workers=2)],
            note="the limit is the sum of the work by the number of cores"),
        Row("map_ints", "map over 1e5 ints, chunked, result of a double each; 2 workers", "ms", "less",
            [floor("copy", row="map", bytes=800_000, count=200, workers=2), kindred("map", items=100_000, count=200, workers=2),
             *thread_pools(row="map", items=100_000, count=200, workers=2),
             *process_pools((*PROCESS_POOLS, "joblib"), row="map", items=100_000, count=n(5, 2), workers=2)], 0.5),
    ]
    rows.append(Row("bytes_64kib", "byte vector in and back, 64 KiB", "ms", "less",
                    [floor("copy", row="bytes", bytes=65536, count=5_000), kindred("bytes", bytes=65536, count=5_000, workers=2),
                     *thread_pools(row="bytes", bytes=65536, count=5_000, workers=2)],
                    conditions=[at_least(1 / 3, "3x the limit of this run at most", name="limit")]))
    for size, label, count, python_count, goal in ((MIB, "1mib", 1_000, n(20, 3), 0.5), (64 * MIB, "64mib", 10, n(3, 2), 70)):
        rows.append(Row(f"bytes_{label}", f"byte vector in and back, {size // MIB} MiB", "ms", "less",
                        [floor("copy", row="bytes", bytes=size, count=count), kindred("bytes", bytes=size, count=count, workers=2),
                         *thread_pools(row="bytes", bytes=size, count=count, workers=2),
                         *process_pools((*PROCESS_POOLS, "joblib"), row="bytes", bytes=size, count=python_count, workers=2)], goal))
    for size, label in ((MIB, "1mib"), (64 * MIB, "64mib"), (1024 * MIB, "1gib")):
        rows.append(Row(f"shared_array_{label}", f"SharedArray of {size // MIB} MiB to a task, read there, p50", "us", "less",
                        [floor("ring", row="round_trip", count=500_000), kindred("shared_array", row="there", bytes=size, count=10_000)], 30))
    rows.append(Row("shared_array_back_64mib", "SharedArray of 64 MiB made by a task, returned, read here, p50 of the way back", "us", "less",
                    # The caller sleeps while the array is made: to be woken after that is what most of the way back is.
                    [floor("wake", how="futex", busy=18_000, count=20), kindred("shared_array", row="back", bytes=64 * MIB, count=20)], 30))

    for size, label, count, goal in ((MIB, "1mib", 1_000, 0.15), (64 * MIB, "64mib", 10, 8)):
        rows.append(Row(f"arrays_{label}", f"the same through two SharedArrays, {size // MIB} MiB: copied into one, and by the task into the other", "ms", "less",
                        [floor("copy", row="bytes", bytes=size, count=count), kindred("shared_array", row="both", bytes=size, count=count, workers=2)], goal,
                        note="the arrays are made once; the limit is four copies"))

    # Many machines, all of them this one. The engine's own limit is a message into its queue, taken, and another one back.
    def cluster(row, work, unit, better, count, goal=None, conditions=(), others=(), **more):
        arguments = dict(row=row, count=count, nodes=2, workers=1) | more
        return Row(f"cluster_{row}", f"{work}; 2 nodes on loopback", unit, better, [*others, kindred("cluster", **arguments)], goal,
                   list(conditions), timeout=120.0)
    rows += [
        cluster("round_trip", "a task there and its result back, p50", "us", "less", n(2000, 200),
                conditions=[at_least(1 / 1.5, "within 1.5 times of the engine's own", name="limit")],
                others=[floor("engine", row="round_trip", count=n(2000, 200))]),
        cluster("tasks_10ms", "tasks of 10 ms, in % of what the workers could do", "%", "more", n(400, 50), 98),
        cluster("map", "empty tasks, chunked by map", "tasks/s", "more", 500_000, 200_000),
        cluster("messages", "empty tasks, a message each", "tasks/s", "more", n(50_000, 2000), 25_000,
                others=[floor("engine", row="messages", count=n(50_000, 2000))]),
        cluster("node_death", "from a node's death until its tasks are elsewhere (lease 2 s)", "s", "less", n(1, 1), 2.5),
        cluster("memory", "memory of the head for each open task beyond its bytes", "bytes", "less", n(50_000, 5000), 1024),
        cluster("log", "records of tasks until they are in the head's sink", "records/s", "more", n(200_000, 10_000), 100_000,
                others=[floor("engine", row="log", count=n(200_000, 10_000))]),
    ]

    goals = {"fork": (1, 0.4), "forkserver": (4, 0.4), "spawn": (4, 3)}
    for method in METHODS:
        first, further = goals[method]
        first_floor = floor("start", row=method, count=30, **({"program": "{build}/floor_linked"} if method == "spawn" else {}))
        further_floor = first_floor if method == "spawn" else floor("start", row="further", workers=8, count=10)
        python = ("CPython", "mp.Pool", "billiard", "pebble") + (("loky",) if method == "spawn" else ())
        rows.append(Row(f"start_{method}", f"construction to first result, {method}; 2 workers", "ms", "less",
                        [first_floor, kindred("start", row="first", workers=2, count=30, **{"start-method": method}),
                         *thread_pools(row="start", workers=2, count=30),
                         *process_pools(python, row="start", workers=2, count=n(5, 2), **{"start-method": method})], first,
                        note="later pools of a process; the first one beside it"))
        rows.append(Row(f"further_{method}", f"each further worker, {method}", "ms", "less",
                        [further_floor, kindred("start", row="further", workers=9, count=10, **{"start-method": method})], further))

    # Not oneTBB: all its arenas share the threads of one scheduler.
    def pools_of_threads(**arguments):
        return [contestant for contestant in thread_pools(pools=64, **arguments) if contestant.name != "oneTBB"]
    rows += [
        Row("pools_64", "64 pools of one worker each in one program: construction until each has given a first result", "ms", "less",
            [kindred("pools", row="start", pools=64, count=n(5, 2)), *pools_of_threads(row="pools", count=n(5, 2)),
             *process_pools(("CPython", "mp.Pool"), row="pools", pools=64, count=2)], timeout=120.0),
        Row("pools_64_round_trip", "round trips over 64 pools of one worker each in turn, p50; the limit: one pool", "us", "less",
            [kindred("pools", row="round_trip", pools=1, count=200_000).renamed("one pool", "limit"),
             kindred("pools", row="round_trip", pools=64, count=10_000), *pools_of_threads(row="pools_round_trip", count=10_000),
             *process_pools(("CPython", "mp.Pool"), row="pools_round_trip", pools=64, count=n(640, 320))], note="p99 beside it", timeout=120.0),
    ]

    # What libpool/doc/sandbox.md says of its cost is the ratio of these.
    for method in METHODS:
        for sandbox, what in (("files", "no network"), ("network", "with network")):
            arguments = {"row": "processor", "workers": 1, "count": 30, "start-method": method}
            rows.append(Row(f"sandbox_{sandbox}_{method}", f"processor time of a pool of one task in a sandbox, {what}, {method}", "ms", "less",
                            [Contestant("no sandbox", "limit", ("{build}/kindred_start",) + words(**arguments)),
                             kindred("start", sandbox=sandbox, **arguments)], scatter=5, note="the limit is the same without a sandbox"))

    rows += processor_rows(n)
    # Whether a burst finds its caches warm depends on the host, for a second on end: many short rounds. What it touches is mapped before it begins.
    for workers, name in ((1, "log_call"), (2, "log_call_two")):
        rows.append(Row(name, f"log call (string, int, double), bursts of 20, p50; {workers} logging at once", "ns", "less",
                        [floor("log_call", count=100, workers=workers), kindred("log_call", count=100, workers=workers),
                         *loggers("log_call", 100, workers, n(100, 20))], 55,
                        [at_least(1 / 1.1, "1.1x the limit of this run", name="limit"), at_least(1.0001, "below quill", name="quill")],
                        scatter=40, close=("limit", "kindred", "quill"), warmed=False))
    for sinks, what in (("json", "as JSON"), ("gz", "rotated and packed as gz"), ("five", "five files of one pattern")):
        rows.append(Row(f"log_records_{sinks}", f"records to a file, {what}, 2 producing", "records/s", "more",
                        [floor("log_records", count=400_000, workers=2), kindred("log_records", count=400_000, workers=2, sinks=sinks)],
                        note="the limit is of one plain file"))
    # Of a run of 400,000 a tenth is the first touch of the log's memory, by the floor as well: these are long enough for what a log does all day.
    for workers, name in ((2, "log_records"), (1, "log_records_one")):
        rows.append(Row(name, f"records to a file, end to end, {workers} producing", "records/s", "more",
                        [floor("log_records", count=1_000_000, workers=workers), kindred("log_records", count=1_000_000, workers=workers),
                         *loggers("log_records", 400_000, workers, n(5_000)), *process_loggers(400_000, workers)], 10e6,
                        [at_least(2, "2x the best logger", "logger")]))

    rows += [
        Row("idle_wakeups", "an idle pool of 2 workers: wake-ups of all its threads and processes in 10 s", "wake-ups", "less",
            [kindred("idle", "wakeups", workers=2), *thread_pools("wakeups", row="idle", workers=2),
             *process_pools(tuple(name for name in PROCESS_POOLS if name != "mpi4py"), "wakeups", row="idle", workers=2)], 0, fixed_limit=0, together=True),
        Row("memory_worker", "private memory of one idle worker", "MiB", "less",
            [floor("page_set", "limit", "worker_memory", workers=2), kindred("idle", "worker_memory", workers=2),
             *process_pools(tuple(name for name in PROCESS_POOLS if name != "mpi4py"), "worker_memory", row="idle", workers=2)], None,
            [at_most_beyond_limit(1, "1 MiB beyond a bare fork")]),
        Row("memory_task", "memory of one pending task", "B", "less",
            [kindred("pending", "pending_memory", workers=2, count=n(500_000)),
             *thread_pools("pending_memory", row="pending", workers=2, count=n(500_000)),
             *process_pools(tuple(name for name in PROCESS_POOLS if name != "mpi4py"), "pending_memory", row="pending", workers=2,
                            count=n(20_000))], 256, fixed_limit=64,
            note="64 B: one cache line"),
        Row("million_timeouts_left", "private memory of the program that is left after a million tasks with a timeout that all ended in time; the limit: "
            "after as many without; 2 workers", "MiB", "less",
            [kindred("memory_left", "left_memory", count=1_000_000, workers=2).renamed("without", "limit"),
             kindred("memory_left", "left_memory", count=1_000_000, timeout=600, workers=2)], figure="parent"),
        Row("memory_after_1e7", f"growth of all processes' memory by {n(10_000_000):,} short tasks, 10,000 at once, after the first 100,000; 2 workers",
            "MiB", "less", [kindred("memory_left", "left_memory", before=100_000, count=n(10_000_000), batch=10_000, workers=2)], timeout=180.0),
        Row("fairness_short", "100 tasks of 10 us behind one of 20 ms, 2 workers: until the last short one is done", "ms", "less",
            [floor("ring", row="behind", count=n(20, 5), shorts=100, iterations="{iterations_10us}"),
             kindred("fairness", row="behind", count=n(20, 5), shorts=100, iterations="{iterations_10us}", long_iterations="{iterations_20000us}"),
             *thread_pools(row="fairness", count=n(20, 5), shorts=100, iterations="{iterations_10us}", long_iterations="{iterations_20000us}"),
             *process_pools(tuple(PROCESS_POOLS), row="fairness", count=n(5, 2), shorts=100, long_us=20_000)], None),
        Row("fairness_results", "a round trip while the other worker floods the log, p50", "us", "less",
            [kindred("fairness", row="results", flood=0, count=20_000).renamed("without the flood", "limit"),
             kindred("fairness", row="results", flood=1, count=20_000)], None),
        Row("fairness_records", "from a log call to its sink while the other worker floods the log, p50", "us", "less",
            [kindred("fairness", row="records", flood=0, count=300).renamed("without the flood", "limit"),
             kindred("fairness", row="records", flood=1, count=300)], None),
        Row("build_time", "a program of 20 lines that submits a task, compiled with -O2", "s", "less",
            [Contestant(name, kind, ("/usr/bin/python3", "{bench}/driver/compile.py", f"{{bench}}/compile_time/{source}.cpp"))
             for name, kind, source in (("limit", "limit", "plain"), ("kindred", "kindred", "kindred"), ("std::async", "thread", "std_async"),
                                        ("oneTBB", "thread", "tbb"), ("Boost.Asio", "thread", "asio"))], 5.0),
    ]
    return rows


def in_process_rows(scale):
    """The parts of a call and of a record that fit into one process (Google Benchmark), in nanoseconds each."""
    seconds = 0.1 if scale < 1 else 0.3
    found = []
    for row, work, peers in (("ring", "64 bytes into a ring and out, one thread", ("boost.lockfree",)),
                             ("codec", "string, double, 100 ints to bytes and back", ("cereal",)),
                             ("line", "a record to a line of text", ("spdlog",))):
        found.append(Row(f"in_process_{row}", work, "ns", "less",
                         [Contestant(name, kind, ("{build}/in_process", f"--benchmark_filter=^{name}/{row}$", "--benchmark_format=json",
                                                  f"--benchmark_min_time={seconds}"))
                          for name, kind in (("limit", "limit"), ("kindred", "kindred"), *((peer, "library") for peer in peers))]))
    return found


def worker_rows(scale):
    """Oversubscription: the same work with 1 to 32 workers. It must degrade as the work does."""
    def n(count, least=1):
        return max(least, int(count * scale))

    rows = []
    for workers in (1, 2, 4, 8, 32):
        common = dict(workers=workers, group="workers", x=workers, process=("CPython", "mp.Pool"))
        rows += [tasks_row(f"workers_tasks_empty_{workers}", f"empty tasks, {workers} workers", 0, n(200_000), n(3_000), **common),
                 tasks_row(f"workers_tasks_10us_{workers}", f"tasks of 10 us, {workers} workers", 10, n(40_000), n(3_000), **common),
                 Row(f"workers_round_trip_{workers}", f"round trip with {workers} workers, p50", "us", "less",
                     [kindred("round_trip", row="round_trip", count=n(10_000), workers=workers),
                      *thread_pools(row="round_trip", count=n(10_000), workers=workers),
                      *process_pools(("CPython", "mp.Pool"), row="round_trip", count=n(300, 50), workers=workers)], group="workers", x=workers),
                 Row(f"workers_log_records_{workers}", f"records to a file, {workers} producing", "records/s", "more",
                     [floor("log_records", count=n(400_000) // workers, workers=workers),
                      kindred("log_records", count=n(400_000) // workers, workers=workers),
                      *[c for c in loggers("log_records", n(200_000) // workers, workers, n(4_000) // workers) if c.kind == "logger"]],
                     group="workers", x=workers)]
    return rows


def growth_rows():
    """Cost of one unit where there are more and more of them: flat, or the page says why not."""
    rows = []
    for power in range(3, 8):
        count = 10**power
        arguments = dict(row="tasks", count=count, workers=2)
        rows.append(Row(f"growth_tasks_1e{power}", f"1e{power} empty tasks", "tasks/s", "more",
                        [floor("ring", **arguments), kindred("tasks", **arguments), *thread_pools(**arguments)], group="growth", x=count, timeout=180))
    for workers in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        for method in METHODS:
            rows.append(Row(f"growth_workers_{method}_{workers}", f"start of {workers} workers, {method}, of one", "ms", "less",
                            [kindred("start", row="all", workers=workers, count=2 if workers > 32 else 5, **{"start-method": method})],
                            group="growth", x=workers, timeout=180))
        arguments = dict(row="tasks", count=100_000, workers=workers, iterations="{iterations_10us}")
        rows.append(Row(f"growth_workers_tasks_{workers}", f"tasks of 10 us with {workers} workers", "tasks/s", "more",
                        [kindred("tasks", **arguments), *[c for c in thread_pools(**arguments) if c.name in ("oneTBB", "Boost.Asio")]],
                        group="growth", x=workers, timeout=120))
    for power in range(6, 27, 2):
        size = 1 << power
        count = max(5, min(2000, (64 * MIB) // size))
        rows.append(Row(f"growth_bytes_{size}", f"byte vector of {size} B in and back", "ms", "less",
                        [floor("copy", row="bytes", bytes=size, count=count), kindred("bytes", bytes=size, count=count, workers=2)],
                        group="growth", x=size))
    for threads in (1, 2, 4, 8, 16, 32, 64):
        rows.append(Row(f"growth_threads_{threads}", f"records to a file, {threads} logging threads in 2 workers", "records/s", "more",
                        [kindred("log_records", count=400_000 // threads, workers=min(2, threads), threads=threads)], group="growth", x=threads))
    return rows


def shared_object_rows():
    """What libpool/doc/shared_objects.md says of the cost of each object."""
    works = {"mutex": "lock and unlock", "counter": "add one", "event_is_set": "is_set", "event_set": "set, where it is set",
             "semaphore": "acquire and release", "channel_number": "send and receive a long", "channel_text": "send and receive 33 characters",
             "make": "make and drop an object"}
    return [Row(f"shared_object_{row}", f"{row.split('_')[0]}: {work}, processor time of one thread", "ns", "less",
                [kindred("shared_objects", row=row, count=100_000 if row == "make" else 1_000_000)], group="shared") for row, work in works.items()]


def header_rows():
    """What each public header costs whoever includes it."""
    root = Path(__file__).resolve().parent.parent.parent
    headers = sorted(path for folder in ("libpool/context", "liblog", "libpool/executor") for path in (root / folder / "include" / "kindred").glob("*.hpp"))
    return [Row(f"header_{path.stem}", f"a file that only includes <kindred/{path.name}>", "s", "less",
                [Contestant("kindred", "kindred", ("/usr/bin/python3", "{bench}/driver/compile.py", "--header", f"kindred/{path.name}"))],
                group="headers") for path in headers]


def all_rows(quick):
    scale = 0.2 if quick else 1.0
    return main_rows(scale) + word_count_rows() + in_process_rows(scale) + worker_rows(scale) + growth_rows() + header_rows() + shared_object_rows()
