"""A measured program: how it is called, and how one run of it is made, bounded, and judged."""
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent


@dataclass
class Result:
    value: float | None
    extras: dict = field(default_factory=dict)
    why: str = ""  # of a run that gave no value


@dataclass(frozen=True)
class Contestant:
    """`command` holds `{build}`, `{bench}`, `{workers}` and the like, filled in at each run. `kind`: limit, kindred, thread, slots,
    process, logger, library. `reading` says what is read: the line that the program prints, or what the driver sees of its processes meanwhile."""
    name: str
    kind: str
    command: tuple[str, ...]
    reading: str = "printed"
    environment: tuple[tuple[str, str], ...] = ()

    def renamed(self, name: str, kind: str) -> "Contestant":
        """The same program in another part: kindred without a disturbance is the limit of kindred with it."""
        return replace(self, name=name, kind=kind)

    def absent(self, values: dict) -> str:
        """Why it cannot be run here, or nothing."""
        program = self.command[0].format(**values)
        if "/" in program:
            if not os.access(program, os.X_OK):
                return "not built" if self.kind in ("kindred", "limit") else "not built, because its library was not found"
        else:
            from shutil import which
            if which(program) is None:
                return f"{program} is not installed"
        return ""

    def run(self, values: dict, timeout: float) -> Result:
        if why := self.absent(values):
            return Result(None, why="missing: " + why)
        from driver import observe
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KINDRED_")}
        environment |= dict(self.environment) | {"TMPDIR": values["folder"]}
        command = [word.format(**values) for word in self.command]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=environment, cwd=values["folder"], start_new_session=True)
        try:
            if self.reading == "printed":
                out, err = process.communicate(timeout=timeout)
            else:
                return observe.READINGS[self.reading](process, values, timeout)
        except (subprocess.TimeoutExpired, observe.Silence):
            return Result(None, why=f"no answer in {timeout:.0f} s")
        except observe.Ended as end:
            return Result(None, why=str(end))
        finally:
            # Workers that outlive their pool (the peers whose tasks were still blocked) go with the session.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        return judged(process.returncode, out, err)


def judged(status: int, out: str, err: str) -> Result:
    """The last line that is an object with a value, or what Google Benchmark prints. What else a program prints is its own affair."""
    if status == 0 and out.startswith("{\n"):
        times = [one["real_time"] for one in json.loads(out)["benchmarks"]]
        return Result(times[0]) if times else Result(None, why="it has no such benchmark")
    for line in reversed(out.splitlines()):
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and "value" in answer:
            if status != 0:
                return Result(None, why=how_it_ended(status, err))
            value = answer.pop("value")
            answer.pop("unit", None)
            return Result(value, answer)
    return Result(None, why=how_it_ended(status, err))


def how_it_ended(status: int, err: str) -> str:
    words = [line.strip() for line in err.splitlines() if line.strip()]
    last = words[-1] if words else "it printed no result"
    ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
    return f"{ended}: {last}"[:200]
