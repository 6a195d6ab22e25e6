// Code that logs with spdlog, and was never told of kindred. In a worker, spdlog's default logger and every
// registered one lead into the pool's one log; in the parent, the sinks may be spdlog's own.
//
// expect: [info] [w0 image_library::convert#1] converting photo.png
// expect: [warn] [w0 image_library::convert#1 codec] photo.png has no colour profile
// expect: from spdlog's own sink: [warning] photo.png has no colour profile
// expect: thumbnails done
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <string>

#include <kindred/kindred.hpp>

// --- the existing library ---
namespace image_library {
std::shared_ptr<spdlog::logger> codec_log() {
  if (auto log = spdlog::get("codec")) return log;
  return spdlog::default_logger()->clone("codec");
}
std::string convert(const std::string& name) {
  spdlog::info("converting {}", name);
  auto log = codec_log();
  if (!spdlog::get("codec")) spdlog::register_logger(log);
  log->warn("{} has no colour profile", name);
  return name.substr(0, name.find('.')) + ".jpg";
}
}  // namespace image_library

// --- the program that uses it in a pool ---
int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(std::cout);
  sink->set_pattern("from spdlog's own sink: [%l] %v");
  pool.logger().add_sink(sink, {.level = kindred::Level::warn});

  const std::string converted = pool.submit(image_library::convert, "photo.png").get();
  pool.logger().info("{} and its thumbnails done", converted);
}
