// The least that a forked worker can weigh: a child forked from a program that links our libraries, which
// only waits. The driver reads its private pages while this program holds.
#include <unistd.h>

#include <memory>

#include "floors/shared_block.hpp"
#include "support/bench.hpp"

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto workers = options.number("workers", 2);
  std::vector<std::unique_ptr<bench::Child>> children;
  std::vector<long> pids;
  for (std::size_t index = 0; index < workers; ++index) {
    children.push_back(std::make_unique<bench::Child>([] { pause(); }));
    pids.push_back(children.back()->pid());
  }
  bench::hold(pids);
  for (auto& child : children) child->kill();
}
