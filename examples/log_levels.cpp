// Loguru's recipes for levels and filters: by module, by sink, a level of one's own, and changed while
// workers run.
//
// expect: [info] [w0 fetch#1 net] GET /index
// expect: [audit] [w0 fetch#1] user 7 fetched /index
// expect: errors only: [error] net.http says 503
// expect: worker 0 only: 6 records
// expect: net.http] 503 after 12 ms
#include <cstdio>
#include <string>

#include <kindred/kindred.hpp>

static const auto audit = kindred::define_level(
    "audit", 35, "bold magenta");  // logger.level("AUDIT", no=35, color="<bold><magenta>")
static const kindred::Logger net{"net"}, http{"net.http"};

void fetch(const std::string& path, int user) {
  net.info("GET {}", path);
  http.debug("503 after {} ms", 12);
  http.error("503");
  kindred::log(audit, "user {} fetched {}", user, path);
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
  // logger.add(sys.stdout, filter={"": "TRACE", "net.http": "DEBUG"})
  pool.logger().add_sink(kindred::sinks::stdout_color(),
                         {.filter = {{"", kindred::Level::trace}, {"net.http", kindred::Level::debug}}});
  // logger.add(sys.stdout, level="ERROR", format="errors only: ...")
  pool.logger().add_sink(kindred::sinks::stdout_color(),
                         {.level = kindred::Level::error, .pattern = "errors only: [%l] %n says %v"});
  // logger.add(..., filter=lambda record: record["process"] == 0)
  int seen = 0;
  pool.logger().add_sink([&](const kindred::LogRecord&) { ++seen; },
                         {.filter = [](const kindred::LogRecord& record) { return record.worker == 0; }});

  pool.submit(fetch, "/index", 7).get();
  pool.logger().set_level(
      "net",
      kindred::Level::error);  // logger.disable("net"), nearly: from the next call on, in every process
  pool.submit(fetch, "/quiet", 7).get();
  pool.logger().set_level("net.http", kindred::Level::debug);  // logger.enable("net.http")
  pool.submit([] { http.debug("503 after {} ms", 12); }).get();
  pool.logger().flush();
  std::printf("worker 0 only: %d records\n", seen);
}
