// A program whose tasks are untidy with what they share with it: untidy_tasks METHOD WHAT.
//   write, read, stty: a task does that to the terminal; says "ended" when it has, "lost" where its worker
//   was closed, closed_idle, stopped, forked, executed, left, flags, grouped, daemon, chain: says "ready"
//   when its workers are so, and stays
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "kindred/kindred.hpp"

namespace {

void stay() {
  for (;;) ::pause();
}
void close_all() { ::syscall(SYS_close_range, 3, ~0U, 0); }

int touch_terminal(const std::string& how) {
  if (how == "write") {
    for (int i = 0; i < 3; ++i) std::puts("a line of a task");
    std::fflush(stdout);
    return 1;
  }
  const int terminal = ::open("/dev/tty", O_RDWR);
  char byte = 0;
  if (how == "read") return static_cast<int>(::read(terminal, &byte, 1));
  termios settings{};
  (void)::tcgetattr(terminal, &settings);
  return ::tcsetattr(terminal, TCSANOW, &settings);
}

// Starts a process in a group or, forked twice, in a session of its own, and returns when it is there.
void start_apart(bool daemon) {
  int told[2];
  if (::pipe(told) != 0) return;
  if (::fork() == 0) {
    (void)(daemon ? ::setsid() : ::setpgid(0, 0));
    if (daemon && ::fork() != 0) ::_exit(0);
    (void)!::write(told[1], "1", 1);
    stay();
  }
  char byte = 0;
  (void)!::read(told[0], &byte, 1);
}

// Starts a process that starts one, and so on, each in a session of its own: each of them becomes the fork
// server's only when the one before it is dead.
void start_chain() {
  constexpr int links = 300;
  int told[2];
  if (::pipe(told) != 0) return;
  for (int link = 0; link < links; ++link) {
    if (::fork() != 0) {
      if (link == 0) break;
      stay();
    }
    (void)::setsid();
    if (link + 1 < links) continue;
    (void)!::write(told[1], "1", 1);
    stay();
  }
  char byte = 0;
  (void)!::read(told[0], &byte, 1);
}

void be(const std::string& what, kindred::Event begun) {
  if (what == "closed" || what == "stopped") close_all();
  if (what == "flags") {
    for (int fd = 0; fd < 64; ++fd) {
      if (::fcntl(fd, F_GETFL) >= 0) ::fcntl(fd, F_SETFL, 0), ::fcntl(fd, F_SETOWN, 0);
    }
  }
  if (what == "left") {
    (void)::setpgid(0, ::getpgid(::getppid()));
    (void)::setsid();
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
  }
  if (what == "forked" && ::fork() == 0) {
    close_all();
    stay();
  }
  if (what == "grouped" || what == "daemon") start_apart(what == "daemon");
  if (what == "chain") start_chain();
  if (what == "closed_idle") close_all();
  begun.set();
  if (what == "closed_idle") return;
  if (what == "stopped") ::raise(SIGSTOP);
  if (what == "executed") ::execlp("sleep", "sleep", "1000", nullptr);
  stay();
}

char state_of(std::uint32_t pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  const auto end = text.rfind(')');
  return end == std::string::npos ? 'T' : text[end + 2];
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
  const std::string what{argv[2]};
  kindred::ProcessPoolExecutor pool{entry,
                                    {.start_method = kindred::parse_start_method(argv[1]), .max_workers = 2}};
  if (what == "write" || what == "read" || what == "stty") {
    auto task = pool.submit(touch_terminal, what);
    try {
      (void)task.get();
      std::puts("ended");
    } catch (const kindred::WorkerLost&) {
      std::puts("lost");
    }
    std::fflush(stdout);
    return 0;
  }
  std::vector<kindred::Future<void>> tasks;
  for (int i = 0; i < 2; ++i) {
    const auto begun = pool.make_event();
    tasks.push_back(pool.submit(be, what, begun));
    begun.wait();
  }
  if (what == "closed_idle") {
    for (auto& task : tasks) task.wait();
  }
  // Being killed an instant before a stop is another case than after it.
  for (const auto pid : pool.worker_pids()) {
    while (what == "stopped" && state_of(pid) != 'T') ::usleep(1000);
  }
  std::puts("ready");
  std::fflush(stdout);
  stay();
}
