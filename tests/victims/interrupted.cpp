// A program that is interrupted or stopped: interrupted METHOD WHAT.
//   gentle   a task that ends when it is asked to, and five that wait. Says "ready", then "N cancelled", then
//   lets the task end deaf     a task that never ends timed    runs tasks of 100 ms under a limit of 1 s
//   until a line comes, and says how many ended by the limit
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "kindred/kindred.hpp"

using namespace std::chrono_literals;

namespace {

int number(int value) { return value; }
void until_asked(kindred::Worker& worker, kindred::Event begun, kindred::Event go) {
  begun.set();
  go.wait();
  while (!worker.stop_requested()) std::this_thread::yield();
}
void stay(kindred::Event begun) {
  begun.set();
  for (;;) ::pause();
}
int rest(int value) {
  std::this_thread::sleep_for(100ms);
  return value;
}

void say(const std::string& text) {
  std::puts(text.c_str());
  std::fflush(stdout);
}
bool a_line_came() {
  pollfd input{.fd = 0, .events = POLLIN, .revents = 0};
  return ::poll(&input, 1, 0) > 0;
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
  const std::string what{argv[2]};
  kindred::ProcessPoolExecutor pool{entry,
                                    {.start_method = kindred::parse_start_method(argv[1]),
                                     .max_workers = 1,
                                     .handle_interrupt = what != "timed"}};
  if (what == "timed") {
    int over = 0, wrong = 0, done = 0;
    say("ready");
    while (!a_line_came()) {
      try {
        wrong += pool.submit({.timeout = 1s}, rest, done).get() == done ? 0 : 1;
        ++done;
        if (!pool.logger().flush()) ++wrong;
      } catch (const kindred::TaskTimeout&) {
        ++over;
      }
    }
    say(std::to_string(over) + " over, " + std::to_string(wrong) + " wrong, " + (done > 0 ? "some" : "none") +
        " done, " + std::to_string(pool.stats().restarts) + " restarts");
    return 0;
  }
  const auto begun = pool.make_event(), go = pool.make_event();
  auto running = what == "gentle" ? pool.submit(until_asked, begun, go) : pool.submit(stay, begun);
  begun.wait();
  std::vector<kindred::Future<int>> pending;
  for (int i = 0; i < 5; ++i) pending.push_back(pool.submit(number, i));
  say("ready");
  int cancelled = 0;
  for (auto& future : pending) {
    future.wait();
    cancelled += future.cancelled() ? 1 : 0;
  }
  say(std::to_string(cancelled) + " cancelled");
  go.set();
  for (;;) ::pause();  // the pool ends the program
}
