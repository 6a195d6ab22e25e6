#!/usr/bin/python3
"""Compiles one source file as a user's build would, and prints how many seconds it took.

    compile.py SOURCE [-I...]
    compile.py --header NAME
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def flags():
    """What find_package(kindred) adds: our include folders and spdlog's definitions."""
    found = [f"-I{ROOT / folder}" for folder in ("libpool/context/include", "liblog/include", "libpool/executor/include")]
    try:
        found += subprocess.run(["pkg-config", "--cflags", "spdlog"], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        found += ["-DSPDLOG_SHARED_LIB", "-DSPDLOG_COMPILED_LIB", "-DSPDLOG_FMT_EXTERNAL"]
    return found


def seconds(source, more=()):
    with tempfile.TemporaryDirectory() as folder:
        command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O2", *flags(), *more, "-c", str(source), "-o", os.path.join(folder, "out.o")]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        took = time.perf_counter() - begin
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        sys.exit(first)
    return took


if __name__ == "__main__":
    if sys.argv[1] == "--header":
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
            source.write(f"#include <{sys.argv[2]}>\n")
            source.flush()
            took = seconds(source.name)
    else:
        took = seconds(sys.argv[1], sys.argv[2:])
    print(json.dumps({"value": took, "unit": "s"}))
