// A program whose tasks are untidy at random, until it is killed: untidy_storm METHOD SEED. Says "ready" when
// tasks run.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <vector>

#include "../support/untidy.hpp"
#include "kindred/kindred.hpp"

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
  const auto method = kindred::parse_start_method(argv[1]);
  std::mt19937_64 random{std::strtoull(argv[2], nullptr, 10)};
  kindred::ProcessPoolExecutor pool{entry,
                                    {.start_method = method,
                                     .max_workers = 3,
                                     .restart_limit = {.count = 1'000'000},
                                     .stopped_limit = std::chrono::milliseconds{300}}};
  pool.logger().set_level(kindred::Level::off);
  pool.submit(kindred::test::untidy, random()).wait();
  std::puts("ready");
  std::fflush(stdout);
  // Under spawn nobody is left who could find these: libpool/doc/untidy_tasks.md.
  const bool leaves = method != kindred::StartMethod::spawn;
  for (;;) {
    std::vector<kindred::Future<std::int64_t>> tasks;
    for (int i = 0; i < 8; ++i) {
      const bool leave = leaves && random() % 4 == 0;
      tasks.push_back(pool.submit(leave ? kindred::test::leave_a_process : kindred::test::untidy, random()));
    }
    for (auto& task : tasks) task.wait();
  }
}
