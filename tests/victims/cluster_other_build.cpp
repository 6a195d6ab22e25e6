// A program that is another one than the test's: a node of it, or, given a server's address, a head that
// waits until its standard input ends.
#include <cstdio>

#include "kindred/cluster.hpp"

namespace {
int twice(int number) { return 2 * number; }
}  // namespace

int main(int argc, char** argv) {
  kindred::ClusterEntry entry{argc, argv};
  if (argc < 2) return 0;
  kindred::ClusterExecutor cluster{
      entry, {.name = "shown", .servers = {argv[1]}, .min_nodes = 2, .lease = std::chrono::seconds{2}}};
  const int value = cluster.submit(twice, 4).get();
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {}
  return value == 8 ? 0 : 1;
}
