"""What is read of a pool from outside, while its program holds: wake-ups and memory of it and all its descendants."""
import json
import select
import time
from pathlib import Path


class Silence(Exception):
    """The program did not say in time that it is ready."""


class Ended(Exception):
    """The program ended instead of saying that it is ready."""


def ready(process, timeout):
    """Waits for the line {"ready": [pids of workers], "count": n} and returns both."""
    until = time.monotonic() + timeout
    while (left := until - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        line = process.stdout.readline()
        if not line:
            from driver.contestant import how_it_ended
            raise Ended(how_it_ended(process.wait(), process.stderr.read()))
        try:
            answer = json.loads(line)
            return answer["ready"], answer.get("count", 0)
        except (ValueError, KeyError, TypeError):
            continue
    raise Silence


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def tree(root):
    """The pids of a process and all its descendants."""
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def switches(pids):
    """How often all threads of these processes were put on a core because they had slept."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                for line in status.read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches:"):
                        total += int(line.split()[1])
            except OSError:
                continue
    return total


def rollup(pid, *names):
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in names:
            total += int(rest.split()[0]) * 1024
    return total


def wakeups(process, values, timeout):
    """Wake-ups in ten seconds of silence, after two that let every spin and every grace period end."""
    from driver.contestant import Result
    ready(process, timeout)
    time.sleep(2)
    seconds = values["idle_seconds"]
    before = switches(tree(process.pid))
    time.sleep(seconds)
    after = switches(tree(process.pid))
    go_on(process)
    return Result((after - before) * 10 / seconds, {"seconds": seconds})


def worker_memory(process, values, timeout):
    """Private memory of a worker in MiB: the mean over the workers that the program names."""
    from driver.contestant import Result
    pids, _ = ready(process, timeout)
    time.sleep(0.2)
    if not pids:
        return Result(None, why="it named no workers")
    mean = sum(rollup(pid, "Private_Clean", "Private_Dirty") for pid in pids) / len(pids)
    go_on(process)
    return Result(mean / 2**20, {"workers": len(pids)})


def pending_memory(process, values, timeout):
    """Bytes a pending task: what the whole tree of processes grows by, shared pages counted once."""
    from driver.contestant import Result
    ready(process, timeout)
    before = sum(rollup(pid, "Pss") for pid in tree(process.pid))
    go_on(process)
    _, count = ready(process, timeout)
    after = sum(rollup(pid, "Pss") for pid in tree(process.pid))
    go_on(process)
    return Result((after - before) / count, {"tasks": count})


def left_memory(process, values, timeout):
    """MiB that the whole tree of processes has grown by between two looks, shared pages counted once; `parent`: private pages of the first alone."""
    from driver.contestant import Result
    ready(process, timeout)
    pids = tree(process.pid)
    before, parent_before = sum(rollup(pid, "Pss") for pid in pids), rollup(process.pid, "Private_Clean", "Private_Dirty")
    go_on(process)
    _, count = ready(process, timeout)
    time.sleep(2)  # what is kept for the next task is given back after a second
    pids = tree(process.pid)
    after, parent_after = sum(rollup(pid, "Pss") for pid in pids), rollup(process.pid, "Private_Clean", "Private_Dirty")
    go_on(process)
    return Result((after - before) / 2**20, {"parent": (parent_after - parent_before) / 2**20, "tasks": count})


READINGS = {"wakeups": wakeups, "worker_memory": worker_memory, "pending_memory": pending_memory, "left_memory": left_memory}
