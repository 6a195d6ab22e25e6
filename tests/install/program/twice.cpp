// What a newcomer writes first: the program that every consumer here builds. `--start-method M` chooses
// another than spawn.
#include <cstdio>
#include <string_view>

#include <kindred/kindred.hpp>

int twice(int number) {
  kindred::log_info("twice {}", number);
  return 2 * number;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  auto method = kindred::StartMethod::spawn;
  if (argc == 3 && std::string_view{argv[1]} == "--start-method")
    method = kindred::parse_start_method(argv[2]);
  kindred::ProcessPoolExecutor pool{entry, {.start_method = method, .max_workers = 2}};
  auto result = pool.submit(twice, 21);
  std::printf("answer %d\n", result.get());
}
