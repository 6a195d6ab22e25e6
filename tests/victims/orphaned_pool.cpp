// A program with a pool that will be killed: orphaned_pool METHOD STATE. Says "ready" when its workers are in
// that state.
//   idle, busy, deaf (blocks all signals), initializer, result (writes large ones without end), respawning
//   (workers die without end) starting (is ready before it has any) exit, leak (leaves main by exit, or with
//   a pool that is never destroyed, while tasks run and wait)
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"

namespace {

void stay() {
  for (;;) ::pause();
}
void say_and_stay(kindred::Event begun) {
  begun.set();
  stay();
}
void stay_deaf(kindred::Event begun) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  say_and_stay(begun);
}
std::vector<char> large_result() { return std::vector<char>(8U << 20U, 'r'); }
int number(int value) { return value; }
void die() { ::raise(SIGKILL); }

void say_ready() {
  std::puts("ready");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
  const std::string state{argv[2]};
  static auto* const pool =
      new kindred::ProcessPoolExecutor{// within reach: what leaks on purpose is no leak to LeakSanitizer
                                       entry,
                                       {.start_method = kindred::parse_start_method(argv[1]),
                                        .max_workers = 2,
                                        .restart_limit = {.count = 1'000'000'000}}};
  pool->logger().add_sink([](const kindred::LogRecord&) {});
  if (state == "starting") {
    pool->set_initializer(
        {stay});  // a worker says nothing more, so nothing but its lifeline tells it that its parent has died
    say_ready();
    auto one = pool->submit(stay), two = pool->submit(stay);
    one.wait();
  }
  if (state == "idle") {
    pool->submit(number, 1).get();
    say_ready();
    stay();
  }
  const auto begun = pool->make_event();
  if (state == "initializer") {
    pool->set_initializer({say_and_stay, begun});
    auto never = pool->submit(number, 1);
    begun.wait();
    say_ready();
    stay();
  }
  if (state == "result") {
    for (bool first = true;; first = false) {
      auto one = pool->submit(large_result), two = pool->submit(large_result);
      one.get();
      if (first) say_ready();
      two.get();
    }
  }
  if (state == "respawning") {
    for (bool first = true;; first = false) {
      auto one = pool->submit(die), two = pool->submit(die);
      one.wait();
      if (first) say_ready();
      two.wait();
    }
  }
  auto running = state == "deaf" ? pool->submit(stay_deaf, begun) : pool->submit(say_and_stay, begun);
  std::vector<kindred::Future<void>> pending;
  for (int i = 0; i < 3; ++i) pending.push_back(pool->submit(stay));
  begun.wait();
  say_ready();
  if (state == "exit") std::exit(0);
  if (state == "leak") return 0;
  stay();
}
