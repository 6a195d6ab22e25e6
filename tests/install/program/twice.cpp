// What a newcomer writes first: the program that every consumer here builds.
#include <cstdio>

#include <kindred/kindred.hpp>

int twice(int number) {
  kindred::log_info("twice {}", number);
  return 2 * number;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.start_method = kindred::StartMethod::spawn, .max_workers = 2}};
  auto result = pool.submit(twice, 21);
  std::printf("answer %d\n", result.get());
}
