#!/usr/bin/python3
"""The process pools that Python's users have, in the rows that kindred has for tasks.

    python_pools.py --pool cpython|mp_pool|loky|joblib|pebble|billiard|mpi4py --row ROW [--name value ...]

Each is used as its own documentation advises:
  cpython   concurrent.futures.ProcessPoolExecutor: submit; map with a chunksize of a quarter of each worker's share
  mp_pool   multiprocessing.Pool: apply_async; map with its own chunksize
  loky      joblib's vendored loky: get_reusable_executor, submit, map with a chunksize
  joblib    joblib.Parallel over delayed calls with its own batching (map and bytes only)
  pebble    pebble.ProcessPool: schedule; map with a chunksize
  billiard  billiard.Pool (Celery's): apply_async; map with its own chunksize
  mpi4py    mpi4py.futures.MPIPoolExecutor, run as `mpiexec -n WORKERS+1 python3 -m mpi4py.futures` (the driver does it)
It prints one JSON line, as every measured program does.
"""
import json
import os
import resource
import sys
import time

sys.dont_write_bytecode = True
from python_tasks import blocked, die_each_tenth, echo, empty, half, work


def options():
    words = sys.argv[1:]
    return {words[at].lstrip("-"): words[at + 1] for at in range(0, len(words) - 1, 2)}


OPTIONS = options()


def number(name, otherwise):
    return int(float(OPTIONS.get(name, otherwise)))


WORKERS = number("workers", 2)
METHOD = OPTIONS.get("start-method", "fork")


def iterations_a_us():
    """Calibrated here, and not by the driver: a Python iteration is no iteration of the C++ work."""
    best = 1e9
    for _ in range(50):
        begin = time.perf_counter_ns()
        work(10_000)
        best = min(best, time.perf_counter_ns() - begin)
    return 10_000 / best * 1000


class CPython:
    def __init__(self, workers, method):
        import concurrent.futures
        import multiprocessing

        self.workers = workers
        self.executor = concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))

    def submit(self, function, *args):
        return self.executor.submit(function, *args)

    def get(self, future):
        return future.result()

    def map(self, function, values):
        return list(self.executor.map(function, values, chunksize=max(1, len(values) // (4 * self.workers))))

    def close(self):
        self.executor.shutdown()


class Loky(CPython):
    def __init__(self, workers, method):
        from joblib.externals.loky import get_reusable_executor

        self.workers = workers
        self.executor = get_reusable_executor(max_workers=workers, timeout=120, reuse=False)


class Joblib(CPython):
    def __init__(self, workers, method):
        import joblib

        self.joblib = joblib
        self.parallel = joblib.Parallel(n_jobs=workers).__enter__()

    def submit(self, function, *args):
        raise SystemExit("joblib has no submit")

    def map(self, function, values):
        return self.parallel(self.joblib.delayed(function)(value) for value in values)

    def close(self):
        self.parallel.__exit__(None, None, None)


class Mpi(CPython):
    def __init__(self, workers, method):
        from mpi4py.futures import MPIPoolExecutor

        self.workers = workers
        self.executor = MPIPoolExecutor(workers)


class Pool:
    def __init__(self, workers, method):
        import multiprocessing

        self.pool = multiprocessing.get_context(method).Pool(workers)

    def submit(self, function, *args):
        return self.pool.apply_async(function, args)

    def get(self, future):
        return future.get()

    def map(self, function, values):
        return self.pool.map(function, values)

    def close(self):
        self.pool.close()
        self.pool.join()


class Billiard(Pool):
    def __init__(self, workers, method):
        import billiard

        self.pool = billiard.get_context(method).Pool(workers)


class Pebble(CPython):
    def __init__(self, workers, method):
        import multiprocessing

        import pebble

        self.workers = workers
        self.executor = pebble.ProcessPool(workers, context=multiprocessing.get_context(method))

    def submit(self, function, *args):
        return self.executor.schedule(function, args=args)

    def map(self, function, values):
        return list(self.executor.map(function, values, chunksize=max(1, len(values) // (4 * self.workers))).result())

    def close(self):
        self.executor.close()
        self.executor.join()


POOLS = {"cpython": CPython, "mp_pool": Pool, "loky": Loky, "joblib": Joblib, "pebble": Pebble, "billiard": Billiard, "mpi4py": Mpi}


def percentile(values, percent):
    values = sorted(values)
    return values[int(percent / 100 * (len(values) - 1) + 0.5)]


def processor_seconds():
    """Of this process, and of its children that have ended and been reaped."""
    usages = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def report(value, unit, **extras):
    print(json.dumps({"value": value, "unit": unit, **extras}), flush=True)


def report_samples(values, unit, scale):
    report(percentile(values, 50) * scale, unit, p99=percentile(values, 99) * scale, **{"p99.9": percentile(values, 99.9) * scale},
           mean=sum(values) / len(values) * scale, samples=len(values))


def hold(pids, count=0):
    print(json.dumps({"ready": pids, "count": count}), flush=True)
    sys.stdin.readline()


def tasks(make):
    count = number("count", 2000)
    iterations = int(float(OPTIONS.get("work_us", 0)) * iterations_a_us())
    processor = processor_seconds()
    pool = make()
    for warm_up in (True, False):
        begin = time.perf_counter_ns()
        futures = [pool.submit(work, iterations) for _ in range(count // 10 + 1 if warm_up else count)]
        for future in futures:
            pool.get(future)
        took = time.perf_counter_ns() - begin
    pool.close()
    report(count / took * 1e9, "tasks/s", cpu_us=(processor_seconds() - processor) * 1e6 / (count + count // 10 + 1))


def round_trip(make, after_silence=False):
    count = number("count", 500)
    pool = make()
    samples = []
    for done in range(count + count // 10 + 1):
        if after_silence:
            time.sleep((1000 + done * 7919 % 2000) / 1e6)
        begin = time.perf_counter_ns()
        pool.get(pool.submit(echo, done))
        if done > count // 10:
            samples.append(time.perf_counter_ns() - begin)
    report_samples(samples, "us", 1e-3)
    pool.close()


def crashing(make):
    """One task in ten ends its worker. A pool that breaks, or loses another task, ends the program."""
    count = number("count", 200)
    pool = make()
    pool.get(pool.submit(empty))
    begin = time.perf_counter_ns()
    futures = [pool.submit(die_each_tenth, index) for index in range(count)]
    for index, future in enumerate(futures):
        try:
            assert pool.get(future) == index
            assert index % 10 != 7, "a task that ends its worker did not"
        except Exception as error:
            if index % 10 != 7:
                sys.exit(f"task {index}, which does not crash: {type(error).__name__} {error}")
    report(count / (time.perf_counter_ns() - begin) * 1e9, "tasks/s")
    pool.close()


def map_row(make):
    values = list(range(number("items", 100_000)))
    pool = make()
    samples = []
    for done in range(number("count", 5) + 1):
        begin = time.perf_counter_ns()
        result = pool.map(half, values)
        if done:
            samples.append(time.perf_counter_ns() - begin)
    assert result[-1] == values[-1] * 0.5
    report_samples(samples, "ms", 1e-6)
    pool.close()


def map_heavy_tailed(make):
    short = int(number("short_us", 20) * iterations_a_us())
    values = [short * (100 if at % 100 == at // 100 * 37 % 100 else 1) for at in range(number("items", 10_000))]
    pool = make()
    samples = []
    for done in range(number("count", 3) + 1):
        begin = time.perf_counter_ns()
        result = pool.map(work, values)
        if done:
            samples.append(time.perf_counter_ns() - begin)
        assert result == values
    report_samples(samples, "ms", 1e-6)
    pool.close()


def bytes_row(make):
    sent = b"\7" * number("bytes", 1 << 20)
    pool = make()
    samples = []
    for done in range(number("count", 5) + 1):
        begin = time.perf_counter_ns()
        back = pool.get(pool.submit(echo, sent)) if not isinstance(pool, Joblib) else pool.map(echo, [sent])[0]
        if done:
            samples.append(time.perf_counter_ns() - begin)
    assert len(back) == len(sent)
    report_samples(samples, "ms", 1e-6)
    pool.close()


def start(make):
    """The first pool of a process pays for imports and helpers: it is reported beside the median of the later ones."""
    samples = []
    for done in range(number("count", 3) + 1):
        begin = time.perf_counter_ns()
        pool = make()
        pool.get(pool.submit(empty))
        samples.append(time.perf_counter_ns() - begin)
        pool.close()
    report(percentile(samples[1:], 50) * 1e-6, "ms", first=samples[0] * 1e-6, samples=len(samples) - 1)


def start_pools(pool_class):
    pools = [pool_class(1, METHOD) for _ in range(number("pools", 64))]
    futures = [pool.submit(echo, index) for index, pool in enumerate(pools)]
    assert [pool.get(future) for pool, future in zip(pools, futures)] == list(range(len(pools)))
    return pools


def many_pools(make):
    samples = []
    for _ in range(number("count", 2)):
        begin = time.perf_counter_ns()
        pools = start_pools(POOLS[OPTIONS["pool"]])
        samples.append(time.perf_counter_ns() - begin)
        for pool in pools:
            pool.close()
    report_samples(samples, "ms", 1e-6)


def many_pools_in_turn(make):
    pools = start_pools(POOLS[OPTIONS["pool"]])
    samples = []
    for done in range(number("count", 500)):
        pool = pools[done % len(pools)]
        begin = time.perf_counter_ns()
        assert pool.get(pool.submit(echo, done)) == done
        samples.append(time.perf_counter_ns() - begin)
    report_samples(samples, "us", 1e-3)
    for pool in pools:
        pool.close()


def fairness(make):
    a_us = iterations_a_us()
    pool = make()
    samples = []
    for _ in range(number("count", 3)):
        for future in [pool.submit(empty) for _ in range(8)]:
            pool.get(future)
        begin = time.perf_counter_ns()
        lengthy = pool.submit(work, int(number("long_us", 20_000) * a_us))
        for future in [pool.submit(work, int(10 * a_us)) for _ in range(number("shorts", 100))]:
            pool.get(future)
        samples.append(time.perf_counter_ns() - begin)
        pool.get(lengthy)
    report_samples(samples, "ms", 1e-6)
    pool.close()


def idle(make):
    pool = make()
    pids = set()
    begin = time.monotonic()
    while len(pids) < WORKERS and time.monotonic() < begin + 20:
        pids |= {pool.get(future) for future in [pool.submit(os.getpid) for _ in range(20)]}
    hold(sorted(pids))
    pool.close()


def pending(make):
    pool = make()
    for _ in range(WORKERS):
        pool.submit(blocked, 3600)
    futures = [None] * number("count", 20_000)
    hold([])
    for index in range(len(futures)):
        futures[index] = pool.submit(echo, index)
    hold([], len(futures))
    os._exit(0)  # the driver ends the workers, which still sleep


ROWS = {"tasks": tasks, "crashing": crashing, "round_trip": round_trip, "round_trip_after_silence": lambda make: round_trip(make, True), "map": map_row,
        "map_heavy_tailed": map_heavy_tailed,
        "bytes": bytes_row, "start": start, "pools": many_pools, "pools_round_trip": many_pools_in_turn, "fairness": fairness, "idle": idle, "pending": pending}

if __name__ == "__main__":
    pool_class = POOLS[OPTIONS["pool"]]
    ROWS[OPTIONS.get("row", "tasks")](lambda: pool_class(WORKERS, METHOD))
