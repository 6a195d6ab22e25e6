"""The machine and the software that a run was made on, in words for the page and the JSON."""
import os
import platform
import subprocess
from pathlib import Path


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def commit():
    top = Path(__file__).resolve().parent.parent.parent
    name = output("git", "-C", str(top), "rev-parse", "--short", "HEAD")
    changed = output("git", "-C", str(top), "status", "--porcelain", "--", "libpool", "liblog", "bench")
    return name + (" with changes" if changed else "")


def facts():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    virtual = "a virtual machine" if " hypervisor" in Path("/proc/cpuinfo").read_text() else "no virtual machine"
    return {
        "processor": processor(), "cores": len(os.sched_getaffinity(0)), "virtual": virtual, "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(), "system": next((line.split("=", 1)[1].strip('"') for line in Path("/etc/os-release").read_text().splitlines()
                                                      if line.startswith("PRETTY_NAME=")), ""),
        "compiler": output(os.environ.get("CXX", "c++"), "--version").splitlines()[:1], "python": platform.python_version(),
        "load_average": os.getloadavg(), "commit": commit(),
    }
