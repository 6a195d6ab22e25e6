// A pool that does what it is told line by line, for tests that look at it from outside.
//   work NAME COUNT MILLISECONDS   that many tasks, which sleep that long; not waited for
//   compute NAME COUNT MILLISECONDS  the same, and the tasks use the CPU all the while
//   hold NAME                      a task that runs until `go`
//   go                             lets the held tasks end
//   fail NAME COUNT                tasks that throw
//   crash NAME                     a task that ends its worker by SIGSEGV
//   say LEVEL TEXT                 a task logs that
//   nest                           a task makes a pool of its own, and holds it until `go`
//   wait                           until all but held tasks have ended
// Says "ready", then "ok" to each; ends with its input.
#include <chrono>
#include <csignal>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kindred/kindred.hpp"

namespace {

int sleep_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  return milliseconds;
}
int compute_for(int milliseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{milliseconds};
  while (std::chrono::steady_clock::now() < end) {}
  return milliseconds;
}
void hold(kindred::Event begun, kindred::Event go) {
  begun.set();
  go.wait();
}
void fail(int number) { throw std::runtime_error{"task " + std::to_string(number) + " has had enough"}; }

[[gnu::noinline]] void touch_nothing(volatile int* at) { *at = 1; }
void crash() {
  kindred::log_warn("about to touch memory that is not there");
  touch_nothing(nullptr);
}
void say(std::string level, std::string text) {
  const auto at = kindred::parse_level(level);
  if (at == kindred::Level::debug)
    kindred::log_debug("{}", text);
  else if (at == kindred::Level::warn)
    kindred::log_warn("{}", text);
  else if (at == kindred::Level::error)
    kindred::log_error("{}", text);
  else
    kindred::log_info("{}", text);
}
void nest(kindred::Worker& worker, kindred::Event begun, kindred::Event go) {
  kindred::ProcessPoolExecutor pool{worker.entry(), {.max_workers = 1}};
  pool.submit({.name = "inner"}, sleep_for, 1).get();
  begun.set();
  go.wait();
}

class Shown {
 public:
  explicit Shown(kindred::Entry& entry, int workers)
      : pool_{entry, {.max_workers = workers, .start_all = true}}, go_{pool_.make_event()} {
    pool_.logger().add_sink([](const kindred::LogRecord&) {});
    pool_.submit(sleep_for, 0).get();
  }

  void obey(const std::string& line) {
    std::istringstream words{line};
    std::string command, name;
    words >> command >> name;
    int count = 1;
    if (command == "work" || command == "compute") {
      int milliseconds = 0;
      words >> count >> milliseconds;
      for (int i = 0; i < count; ++i)
        numbers_.push_back(
            pool_.submit({.name = name}, command == "work" ? sleep_for : compute_for, milliseconds));
    } else if (command == "hold" || command == "nest") {
      auto begun = pool_.make_event();
      held_.push_back(command == "hold" ? pool_.submit({.name = name}, hold, begun, go_)
                                        : pool_.submit({.name = "nest"}, nest, begun, go_));
      begun.wait();
    } else if (command == "go") {
      go_.set();
      for (auto& future : held_) future.wait();
      held_.clear();
      go_ = pool_.make_event();
    } else if (command == "fail") {
      words >> count;
      for (int i = 0; i < count; ++i) others_.push_back(pool_.submit({.name = name}, fail, i));
    } else if (command == "crash") {
      others_.push_back(pool_.submit({.name = name}, crash));
      others_.back().wait();
    } else if (command == "say") {
      std::string text;
      std::getline(words >> std::ws, text);
      pool_.submit({.name = "say"}, say, name, text).get();
    } else if (command == "wait") {
      for (auto& future : numbers_) future.wait();
      for (auto& future : others_) future.wait();
      numbers_.clear();
      others_.clear();
    }
  }

 private:
  kindred::ProcessPoolExecutor pool_;
  kindred::Event go_;
  std::vector<kindred::Future<int>> numbers_;
  std::vector<kindred::Future<void>> held_;
  std::vector<kindred::Future<void>> others_;
};

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  Shown shown{entry, argc > 1 ? std::stoi(argv[1]) : 2};
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    shown.obey(line);
    std::cout << "ok" << std::endl;
  }
}
