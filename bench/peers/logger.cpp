// Loggers of one process, with --workers threads logging at once, in the rows log_call and log_records.
// Compiled once for each library; spdlog is chosen by --logger sync|async|st. All write the same text to a
// file: time, level, thread, message.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "support/bench.hpp"
#include "support/log_bursts.hpp"
#include "support/log_file.hpp"
#include "support/processor_time.hpp"

#if defined(BENCH_LOGGER_QUILL)
#include <quill/Backend.h>
#include <quill/Frontend.h>
#include <quill/LogMacros.h>
#include <quill/Logger.h>
#include <quill/sinks/FileSink.h>
#elif defined(BENCH_LOGGER_FMTLOG)
#include <fmtlog.h>
#else
#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#endif

namespace {

#if defined(BENCH_LOGGER_QUILL)
/// quill: the macros, a backend thread with its defaults, the pattern with a time in microseconds.
class Log {
 public:
  Log(const bench::LogFile& file, const std::string&) {
    quill::Backend::start();
    logger_ = quill::Frontend::create_or_get_logger(
        "bench",
        quill::Frontend::create_or_get_sink<quill::FileSink>(file.path(),
                                                             [] { return quill::FileSinkConfig{}; }()),
        quill::PatternFormatterOptions{"[%(time)] [%(log_level)] [%(thread_id)] %(message)",
                                       "%Y-%m-%d %H:%M:%S.%Qus"});
  }
  void begin_thread() { quill::Frontend::preallocate(); }
  void operator()(const std::string& text, std::int64_t number, double real) const {
    LOG_INFO(logger_, BENCH_RECORD_FORMAT, text, number, real);
  }
  void flush() { logger_->flush_log(); }

 private:
  quill::Logger* logger_;
};
#elif defined(BENCH_LOGGER_FMTLOG)
/// fmtlog: the macro, its polling thread with the interval of its README (1 ms), producers block when their
/// ring is full.
class Log {
 public:
  Log(const bench::LogFile& file, const std::string&) {
    fmtlog::setLogFile(file.path().c_str(), true);
    fmtlog::setHeaderPattern("[{YmdHMSf}] [{l}] [{t}] ");
    fmtlog::startPollingThread(1'000'000);
  }
  void begin_thread() { fmtlog::preallocate(); }
  void operator()(const std::string& text, std::int64_t number, double real) const {
    FMTLOG(fmtlog::INF, BENCH_RECORD_FORMAT, text, number, real);
  }
  void flush() {
    fmtlog::stopPollingThread();
    fmtlog::poll(true);
  }
};
#else
/// spdlog: a basic_file_sink_mt, synchronous, or behind `async_factory` with its default queue (8,192
/// messages, block, one thread). `st`: a basic_file_sink_st, which one thread may use, and takes no lock.
class Log {
 public:
  Log(const bench::LogFile& file, const std::string& how)
      : logger_{how == "async" ? spdlog::basic_logger_mt<spdlog::async_factory>("bench", file.path())
                : how == "st"  ? spdlog::basic_logger_st("bench", file.path())
                               : spdlog::basic_logger_mt("bench", file.path())} {
    logger_->set_pattern("[%Y-%m-%d %H:%M:%S.%f] [%l] [%t] %v");
  }
  void begin_thread() {}
  void operator()(const std::string& text, std::int64_t number, double real) const {
    logger_->info(BENCH_RECORD_FORMAT, text, number, real);
  }
  void flush() {
    logger_.reset();
    spdlog::shutdown();  // the way spdlog itself waits for what an async logger has queued
  }

 private:
  std::shared_ptr<spdlog::logger> logger_;
};
#endif

void log_call(Log& log, std::size_t bursts, std::size_t workers) {
  std::vector<double> p50(workers);
  std::vector<double> p99(workers);
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < workers; ++index) {
    threads.emplace_back([&, index] {
      log.begin_thread();
      auto samples = bench::time_bursts(bursts, log);
      p50[index] = samples.percentile(50) / static_cast<double>(workers);
      p99[index] = samples.percentile(99) / static_cast<double>(workers);
    });
  }
  for (auto& thread : threads) thread.join();
  log.flush();
  double p50_mean = 0;
  double p99_mean = 0;
  for (const double value : p50) p50_mean += value;
  for (const double value : p99) p99_mean += value;
  bench::report(p50_mean, "ns", {{"p99", p99_mean}});
}

void log_records(Log& log, const bench::LogFile& file, std::size_t count, std::size_t workers) {
  std::vector<std::thread> threads;
  const double processor = bench::processor_ns();
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < workers; ++index) {
    threads.emplace_back([&] {
      log.begin_thread();
      const std::string text = "customer 4711";
      for (std::size_t done = 0; done < count; ++done)
        log(text, static_cast<std::int64_t>(done), 0.25 * static_cast<double>(done));
    });
  }
  for (auto& thread : threads) thread.join();
  log.flush();
  bench::report_records(file, count * workers, {bench::now_ns() - begin, bench::processor_ns() - processor});
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const bench::LogFile file;
  Log log{file, options.text("logger", "sync")};
  const auto workers = options.number("workers", 2);
  if (options.text("row", "log_call") == "log_call") {
    log_call(log, options.number("count", 500), workers);
  } else {
    log_records(log, file, options.number("count", 100'000), workers);
  }
}
