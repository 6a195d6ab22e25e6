#!/usr/bin/python3
"""What Python's users have to log from several processes into one file, in the rows log_call and log_records.

    python_loggers.py --logger stdlib|loguru --row log_call|log_records [--count N] [--workers N]

  stdlib   logging.handlers.QueueHandler in the workers, QueueListener with a FileHandler in the parent (the logging cookbook)
  loguru   one file sink with enqueue=True, the logger inherited by forked workers (its documentation, "Compatible with
           multiprocessing")
"""
import json
import logging
import logging.handlers
import multiprocessing
import os
import resource
import sys
import tempfile
import time

WORDS = sys.argv[1:]
OPTIONS = {WORDS[at].lstrip("-"): WORDS[at + 1] for at in range(0, len(WORDS) - 1, 2)}
FORMAT = "{} ordered {} items for {} euro"
BURST = 20


class Stdlib:
    def __init__(self, context, path):
        self.queue = context.Queue()
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("[%(asctime)s] [%(levelname)s] [%(process)d] %(message)s"))
        self.listener = logging.handlers.QueueListener(self.queue, handler)
        self.listener.start()
        self.handler = handler

    def begin_worker(self):
        root = logging.getLogger()
        root.addHandler(logging.handlers.QueueHandler(self.queue))
        root.setLevel(logging.INFO)
        return lambda text, count, real: root.info("%s ordered %s items for %s euro", text, count, real)

    def end_worker(self):
        self.queue.close()
        self.queue.join_thread()

    def flush(self):
        self.listener.stop()
        self.handler.flush()


class Loguru:
    def __init__(self, context, path):
        from loguru import logger

        logger.remove()
        logger.add(path, enqueue=True, format="[{time:YYYY-MM-DD HH:mm:ss.SSSSSS}] [{level}] [{process}] {message}")
        self.logger = logger

    def begin_worker(self):
        return lambda text, count, real: self.logger.info(FORMAT, text, count, real)

    def end_worker(self):
        self.logger.complete()

    def flush(self):
        self.logger.complete()
        self.logger.remove()


def percentile(values, percent):
    values = sorted(values)
    return values[int(percent / 100 * (len(values) - 1) + 0.5)]


def processor_seconds():
    """Of this process, and of its children that have ended and been reaped."""
    usages = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def bursts(log, count, results):
    call = log.begin_worker()
    samples = []
    for done in range(count + 1):
        begin = time.perf_counter_ns()
        for number in range(BURST):
            call("customer 4711", number, 0.25 * number)
        if done:
            samples.append((time.perf_counter_ns() - begin) / BURST)
        time.sleep(0.001)
    results.put((percentile(samples, 50), percentile(samples, 99)))
    log.end_worker()


def records(log, count):
    call = log.begin_worker()
    for number in range(count):
        call("customer 4711", number, 0.25 * number)
    log.end_worker()


def main():
    context = multiprocessing.get_context("fork")
    workers = int(OPTIONS.get("workers", 2))
    count = int(float(OPTIONS.get("count", 100)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        log = {"stdlib": Stdlib, "loguru": Loguru}[OPTIONS["logger"]](context, path)
        if OPTIONS.get("row", "log_call") == "log_call":
            results = context.SimpleQueue()
            processes = [context.Process(target=bursts, args=(log, count, results)) for _ in range(workers)]
            for process in processes:
                process.start()
            figures = [results.get() for _ in processes]
            for process in processes:
                process.join()
            log.flush()
            print(json.dumps({"value": sum(p50 for p50, _ in figures) / workers, "unit": "ns", "p99": sum(p99 for _, p99 in figures) / workers}))
            return
        processor = processor_seconds()
        begin = time.perf_counter_ns()
        processes = [context.Process(target=records, args=(log, count)) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        log.flush()
        took = time.perf_counter_ns() - begin
        processor = processor_seconds() - processor
        with open(path, encoding="utf-8") as file:
            whole = sum(1 for line in file if line.endswith(" euro\n") and line.count("ordered") == 1)
        if whole != count * workers:
            sys.exit(f"{whole} whole lines where {count * workers} records were logged")
        print(json.dumps({"value": count * workers / took * 1e9, "unit": "records/s", "whole": whole,
                          "cpu_us": processor * 1e6 / (count * workers)}))


if __name__ == "__main__":
    main()
