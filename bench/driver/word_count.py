#!/usr/bin/python3
"""Has one program count the words of a tree of files, checks what it found, and prints how many seconds it took from its start to its end.

    word_count.py --counter kindred|openmp|one_thread|xargs|cpython --build FOLDER [--path FOLDER] [--workers N] [--start-method M]

Each program lists the files itself, within the clock. All files have just been read when the clock starts, so none waits for the disk. The
total must be that of `LC_ALL=C wc -w`, and the twenty commonest words (which xargs with wc does not count) those of one thread of the OpenMP
program; both are asked once, and kept in TMPDIR. `inside` is what the program itself says: from the construction of its pool (of OpenMP: from the
beginning of main) to its last result.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / "peers"
STOP_WORDS = str(PEERS / "stop_words.txt")
WORDS = sys.argv[1:]
OPTIONS = {WORDS[at].lstrip("-"): WORDS[at + 1] for at in range(0, len(WORDS) - 1, 2)}
TREE = OPTIONS.get("path", "/usr/include")
BUILD = OPTIONS["build"]
WORKERS = OPTIONS.get("workers", "2")
METHOD = OPTIONS.get("start-method", "fork")

# A word's total for each batch: the lines of several wc, which write to one pipe, could be torn. /dev/null, so that a batch of one file has a total, too.
XARGS = """find "$1" -type f -print0 | xargs -0 -P "$2" -n 128 sh -c 'wc -w /dev/null "$@" | tail -n 1' sh |
           awk '{ sum += $1 } END { print sum " words" }'"""


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode != 0:
        sys.exit(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{command[0]} ended with {done.returncode}")
    return done.stdout


def unprintable():
    """Whether this system's wc counts words without a printable character: since coreutils 9.5."""
    return output("sh", "-c", r"printf '\001' | wc -w").strip()


def openmp(threads, share=1):
    return [f"{BUILD}/peer_openmp_words", "--path", TREE, "--stop_words", STOP_WORDS, "--threads", str(threads), "--share", str(share),
            "--unprintable", unprintable()]


def command(counter, stats):
    if counter == "kindred":
        return [f"{BUILD}/kindred_word_count", TREE, "--workers", WORKERS, "--start-method", METHOD, "--stop-words", STOP_WORDS, "--stats", stats]
    if counter == "openmp":
        return openmp(WORKERS)
    if counter == "one_thread":
        return openmp(1, WORKERS)
    if counter == "xargs":
        return ["sh", "-c", XARGS, "sh", TREE, WORKERS]
    if counter == "cpython":
        return ["/usr/bin/python3", str(PEERS / "python_words.py"), "--path", TREE, "--stop_words", STOP_WORDS, "--workers", WORKERS,
                "--start-method", METHOD, "--unprintable", unprintable()]
    sys.exit(f"no counter {counter}")


def commonest(text):
    """The lines `COUNT  WORD` of a program's output."""
    return [line for line in text.splitlines() if len(line.split()) == 2 and line.split()[0].isdigit()]


def expected():
    kept = Path(tempfile.gettempdir()) / "word_count.expected.json"
    if not kept.exists():
        total = output("sh", "-c", 'find "$1" -type f -print0 | wc -w --files0-from=- | tail -n 1', "sh", TREE).split()[0]
        known = Path(f"{BUILD}/peer_openmp_words").exists()
        kept.write_text(json.dumps({"words": total, "commonest": commonest(output(*openmp(1))) if known else None}))
    return json.loads(kept.read_text())


def check(counter, text, right):
    words = next((line.split()[0] for line in text.splitlines() if " words" in line), "no total")
    if words != right["words"]:
        sys.exit(f"it found {words} words, wc -w finds {right['words']}")
    if counter != "xargs" and right["commonest"] and commonest(text) != right["commonest"]:
        sys.exit("its commonest words are not those of one thread of the OpenMP program")


def inside(counter, text, stats):
    if counter == "kindred":
        return float(Path(stats).read_text().split()[2])
    if counter == "xargs":
        return None
    return json.loads(text.splitlines()[-1])["value"]


def main():
    counter = OPTIONS["counter"]
    right = expected()
    stats = str(Path(tempfile.gettempdir()) / f"word_count.{os.getpid()}.stats")
    chosen = command(counter, stats)
    output("sh", "-c", 'find "$1" -type f -print0 | xargs -0 cat >/dev/null', "sh", TREE)
    begin = time.perf_counter()
    text = output(*chosen)
    took = time.perf_counter() - begin
    check(counter, text, right)
    says = inside(counter, text, stats)
    if counter == "one_thread":
        took /= int(WORKERS)
    print(json.dumps({"value": took, "unit": "s", "words": int(right["words"]), **({} if says is None else {"inside": says})}))


if __name__ == "__main__":
    main()
