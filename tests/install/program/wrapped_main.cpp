// A program whose `main` is kindred's.
#include <cstdio>

#include <kindred/kindred.hpp>

int twice(int number) { return 2 * number; }

int kindred_main(int, char**, kindred::Entry& entry) {
  kindred::ProcessPoolExecutor pool{entry, {.start_method = kindred::StartMethod::spawn, .max_workers = 1}};
  std::printf("answer %d\n", pool.submit(twice, 21).get());
  return 0;
}
