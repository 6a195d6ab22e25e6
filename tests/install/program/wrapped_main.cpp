// A program whose `main` is kindred's.
#include <cstdio>
#include <string_view>

#include <kindred/kindred.hpp>

int twice(int number) { return 2 * number; }

int kindred_main(int argc, char** argv, kindred::Entry& entry) {
  auto method = kindred::StartMethod::spawn;
  if (argc == 3 && std::string_view{argv[1]} == "--start-method")
    method = kindred::parse_start_method(argv[2]);
  kindred::ProcessPoolExecutor pool{entry, {.start_method = method, .max_workers = 1}};
  std::printf("answer %d\n", pool.submit(twice, 21).get());
  return 0;
}
