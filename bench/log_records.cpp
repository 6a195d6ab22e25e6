// Records to a file, end to end: --workers tasks log --count records each, from --threads threads in all;
// until the last one is in the file. Each line has time, level, worker and task, as the default pattern
// writes them. --sinks: `file` (the default), `json`, `five` (files of one pattern), or `gz` (a file that is
// rotated each 8 MB, and packed meanwhile); of five, each file is counted.
#include <cstdio>
#include <deque>
#include <thread>

#include "support/log_file.hpp"
#include "support/pool_options.hpp"
#include "support/processor_time.hpp"

namespace {

void nothing() {}

void log_all(std::size_t count) {
  const std::string text = "customer 4711";
  for (std::size_t done = 0; done < count; ++done)
    kindred::log_info(BENCH_RECORD_FORMAT, text, done, 0.25 * static_cast<double>(done));
}

void log_from(std::size_t threads, std::size_t count) {
  std::vector<std::jthread> others;
  for (std::size_t index = 1; index < threads; ++index) others.emplace_back(log_all, count);
  log_all(count);
}

/// Counts the lines of the file and of those that were rotated away, and removes the latter.
void check_packed(const std::string& path, std::size_t expected) {
  const std::string all = path + " " + path + ".*.gz";
  std::FILE* const lines =
      ::popen(("zcat -f " + all + " | grep -c ordered; rm -f " + path + ".*.gz").c_str(), "r");
  std::size_t found = 0;
  if (lines == nullptr || std::fscanf(lines, "%zu", &found) != 1 || ::pclose(lines) != 0)
    bench::fail("the packed files cannot be read");
  if (found != expected) bench::fail(std::to_string(found) + " records are in the files");
}

/// A pool's whole life; returns how long it took until the last record was in a file.
double run_all(kindred::Entry& entry, const bench::Options& options, const std::deque<bench::LogFile>& files,
               std::size_t workers, std::size_t threads) {
  const auto count = options.number("count", 100'000);
  const std::string sinks = options.text("sinks", "file");
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  kindred::FileOptions file;
  if (sinks == "gz") {
    file.rotate = "8 MB";
    file.compression = kindred::Compression::gz;
  }
  for (const auto& one : files)
    pool.logger().add_sink(sinks == "json" ? kindred::sinks::json(one.path())
                                           : kindred::sinks::file(one.path(), file));
  std::vector<kindred::Future<void>> futures;
  pool.submit(nothing).get();
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < workers; ++index)
    futures.push_back(pool.submit(log_from, threads, count));
  for (auto& future : futures) future.get();
  pool.logger().flush();
  const double took = bench::now_ns() - begin;
  pool.logger().remove_sinks();  // until all is packed
  return took;
}

/// Counts what is in the files, and reports.
void report(const std::string& sinks, const std::deque<bench::LogFile>& files, std::size_t records,
            bench::Took took) {
  if (sinks == "gz") {
    check_packed(files.front().path(), records);
    bench::report_records(records, took);
    return;
  }
  for (std::size_t i = 1; i < files.size(); ++i) {
    if (files[i].count(bench::record_word, bench::record_end).whole != records)
      bench::fail("a file has not all records");
  }
  if (sinks == "json")
    bench::report_records(files.front(), records, took, false, "\"message\":", "}");
  else
    bench::report_records(files.front(), records, took);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto workers = options.number("workers", 2);
  const auto threads = options.number("threads", workers) / workers;
  const std::string sinks = options.text("sinks", "file");
  const std::deque<bench::LogFile> files(sinks == "five" ? 5 : 1);
  const double processor = bench::processor_ns();
  const double took = run_all(entry, options, files, workers, threads);
  report(sinks, files, options.number("count", 100'000) * threads * workers,
         {took, bench::processor_ns() - processor});
}
