// The machine's limit from nothing to a first answer of a worker process, p50:
//   --row fork         a process forked from here that forks another, which answers: a template and its
//   worker
//   --row forkserver   a request to a running server that forks a process, which answers
//   --row spawn        posix_spawn of a program that links our libraries, which answers (--program PATH)
//   --row further      what each further process of a running server costs: the same as forkserver, --workers
//   at once, each
#include <linux/futex.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <memory>

#include "floors/shared_block.hpp"
#include "support/bench.hpp"

extern char** environ;

namespace {

using Word = std::atomic<std::uint32_t>;

void answer(Word& word) {
  word.fetch_add(1, std::memory_order_release);
  syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void await(Word& word, std::uint32_t answers) {
  for (;;) {
    const auto seen = word.load(std::memory_order_acquire);
    if (seen >= answers) return;
    syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
  }
}

double by_fork() {
  const bench::SharedBlock<Word> word;
  const double begin = bench::now_ns();
  bench::Child server{[&] { bench::Child worker{[&] { answer(*word); }}; }};
  await(*word, 1);
  return bench::now_ns() - begin;
}

class Server {
 public:
  Server() {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) != 0) bench::fail("socketpair failed");
    child_ = std::make_unique<bench::Child>([this] {
      signal(SIGCHLD, SIG_IGN);
      close(ends_[0]);
      char letter = 0;
      while (read(ends_[1], &letter, 1) == 1) {
        const pid_t pid = fork();
        if (pid == 0) {
          answer(*word_);
          _exit(0);
        }
      }
    });
    close(ends_[1]);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { close(ends_[0]); }
  double start(std::uint32_t workers) {
    word_->store(0);
    const double begin = bench::now_ns();
    for (std::uint32_t index = 0; index < workers; ++index) {
      if (write(ends_[0], "x", 1) != 1) bench::fail("write failed");
    }
    await(*word_, workers);
    return (bench::now_ns() - begin) / workers;
  }

 private:
  int ends_[2] = {-1, -1};
  bench::SharedBlock<Word> word_;
  std::unique_ptr<bench::Child> child_;
};

double by_spawn(const std::string& program) {
  int ends[2];
  if (pipe(ends) != 0) bench::fail("pipe failed");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  std::string path = program;
  char* const arguments[] = {path.data(), nullptr};
  pid_t pid = -1;
  const double begin = bench::now_ns();
  if (posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments, environ) != 0)
    bench::fail("cannot run " + program);
  close(ends[1]);
  char letter = 0;
  if (read(ends[0], &letter, 1) != 1) bench::fail(program + " did not answer");
  const double took = bench::now_ns() - begin;
  waitpid(pid, nullptr, 0);
  close(ends[0]);
  posix_spawn_file_actions_destroy(&actions);
  return took;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 20);
  const auto row = options.text("row", "fork");
  bench::Samples samples{count};
  if (row == "fork") {
    for (std::size_t done = 0; done < count; ++done) samples.add(by_fork());
  } else if (row == "forkserver" || row == "further") {
    Server server;
    const auto workers = row == "further" ? static_cast<std::uint32_t>(options.number("workers", 8)) : 1;
    for (std::size_t done = 0; done < count; ++done) samples.add(server.start(workers));
  } else if (row == "spawn") {
    for (std::size_t done = 0; done < count; ++done)
      samples.add(by_spawn(options.text("program", "floor_linked")));
  } else {
    bench::fail("--row fork|forkserver|further|spawn");
  }
  samples.report("ms", 1e-6);
}
