// Loguru's recipes for files: rotation, retention, compression, serialize. One call each, in the parent, for
// all processes.
//
// run: @TEMP@
// expect: app.log and at most 3 rotated files, packed
// expect: night.log is there
// expect: 2000 JSON objects: {"text":
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <kindred/kindred.hpp>

void work(int task) {
  for (int i = 0; i < 500; ++i) kindred::log_info("task {} at step {}", task, i);
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const std::string folder = argc > 1 ? argv[1] : ".";
  {
    kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
    namespace sinks = kindred::sinks;
    // logger.add("app.log", rotation="20 KB", retention=3, compression="gz")
    pool.logger().add_sink(sinks::file(
        folder + "/app.log", {.rotate = "20 KB", .retention = 3, .compression = kindred::Compression::gz}));
    // logger.add("night.log", rotation=["00:00", "1 week", "500 MB"], retention="10 days")
    pool.logger().add_sink(sinks::file(folder + "/night.log",
                                       {.rotate = {"00:00", "1 week", "500 MB"}, .retention = "10 days"}));
    // logger.add("app.json", serialize=True)
    pool.logger().add_sink(sinks::json(folder + "/app.json"));
    for (int task = 0; task < 4; ++task) (void)pool.submit(work, task);
  }  // the pool's end: everything is in the files

  const std::filesystem::directory_iterator all{folder};
  const auto packed =
      std::count_if(begin(all), end(all), [](const auto& file) { return file.path().extension() == ".gz"; });
  if (packed >= 1 && packed <= 3) std::puts("app.log and at most 3 rotated files, packed");
  if (std::filesystem::exists(folder + "/night.log")) std::puts("night.log is there");
  std::ifstream json{folder + "/app.json"};
  int objects = 0;
  std::string first;
  for (std::string line; std::getline(json, line); ++objects) first = line;
  std::printf("%d JSON objects: %.8s\n", objects, first.c_str());
}
