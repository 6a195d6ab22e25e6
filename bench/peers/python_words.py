#!/usr/bin/python3
"""The job of examples/word_count.cpp with Python's ProcessPoolExecutor: `map` over the files, an initializer that loads the stop words.

    python_words.py --path FOLDER --stop_words FILE --workers N --start-method fork|spawn|forkserver --unprintable 0|1

A worker that dies breaks the pool: every task that has not ended fails with BrokenProcessPool.
"""
import collections
import concurrent.futures
import json
import multiprocessing
import os
import re
import sys
import time

WORDS = sys.argv[1:]
OPTIONS = {WORDS[at].lstrip("-"): WORDS[at + 1] for at in range(0, len(WORDS) - 1, 2)}
PRINTABLE = re.compile(rb"[!-~]")
LETTERS = re.compile(rb"[^A-Za-z]*([A-Za-z]{2,})[^A-Za-z]*")
LONGEST = 32
RULES = {}


def load_rules(file, unprintable):
    RULES["stop words"] = set(open(file, "rb").read().split())
    RULES["unprintable"] = unprintable


def count_words(path):
    try:
        with open(path, "rb") as file:
            found = collections.Counter(file.read().split())
    except OSError:
        return None
    words, tally = 0, collections.Counter()
    stop_words, unprintable = RULES["stop words"], RULES["unprintable"]
    for word, count in found.items():
        if not unprintable and not PRINTABLE.search(word):
            continue
        words += count
        if len(word) <= LONGEST and (letters := LETTERS.fullmatch(word)):
            lower = letters[1].lower()
            if lower not in stop_words:
                tally[lower] += count
    return words, dict(tally)


def files_below(folder):
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def main():
    begin = time.perf_counter()
    context = multiprocessing.get_context(OPTIONS.get("start-method", "fork"))
    rules = (OPTIONS["stop_words"], OPTIONS.get("unprintable", "0") == "1")
    words, readable, tally = 0, 0, collections.Counter()
    with concurrent.futures.ProcessPoolExecutor(int(OPTIONS.get("workers", 2)), context, load_rules, rules) as pool:
        files = list(files_below(OPTIONS.get("path", "/usr/include")))
        for counted in pool.map(count_words, files, chunksize=64):
            if counted is not None:
                readable += 1
                words += counted[0]
                for word, count in counted[1].items():
                    tally[word] += count
        seconds = time.perf_counter() - begin
    print(f"{words} words in {readable} files; the commonest of them (stop words are left out):")
    for word, count in sorted(tally.items(), key=lambda item: (-item[1], item[0]))[:20]:
        print(f"{count:10}  {word.decode()}")
    print(json.dumps({"value": seconds, "unit": "s"}))


if __name__ == "__main__":
    main()
