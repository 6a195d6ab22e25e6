"""A pool that does what it is told (tests/victims/shown_pool.cpp), and kindred-view beside it."""
import subprocess
import urllib.request

# What the tests ask for is on this machine, also where the environment names a proxy for everything else.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))


class ShownPool:
    def __init__(self, program, workers=2):
        self.process = subprocess.Popen([program, str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._expect("ready")

    def _expect(self, word):
        line = self.process.stdout.readline().strip()
        if line != word:
            raise RuntimeError(f"the pool said {line!r} instead of {word!r}")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self._expect("ok")

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class View:
    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url.startswith("http://"):
            raise RuntimeError(f"kindred-view said {self.url!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
