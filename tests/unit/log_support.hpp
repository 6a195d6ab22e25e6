#pragma once

// For the tests of the log: a collector without an executor, and processes that log to it without a pool.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/executor_logger.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/log.hpp"
#include "support/test.hpp"

namespace kindred::internal {
struct LogTestAccess {
  static CollectorKey key() { return CollectorKey{}; }
};
}  // namespace kindred::internal

namespace kindred::test {

/// Memory that this process and its forks share.
class SharedPages {
 public:
  explicit SharedPages(std::size_t bytes)
      : bytes_{bytes},
        address_{::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)} {
    REQUIRE(address_ != MAP_FAILED);
  }
  SharedPages(const SharedPages&) = delete;
  SharedPages& operator=(const SharedPages&) = delete;
  ~SharedPages() { ::munmap(address_, bytes_); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(address_), bytes_};
  }

 private:
  std::size_t bytes_;
  void* address_;
};

/// Something that one process waits for and another one lets happen.
class Gate {
 public:
  Gate() { REQUIRE(::pipe(ends_) == 0); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void open() const {
    if (::write(ends_[1], "x", 1) != 1) std::abort();
  }
  void pass() const {
    char letter;
    while (::read(ends_[0], &letter, 1) < 0) {}
  }

 private:
  int ends_[2];
};

/// A log as an executor has one, with a sink that keeps every record. A case that says nothing of
/// `block_limit` and `flush_limit` loses no record for want of patience, however slow the machine is.
class TestLog {
 public:
  explicit TestLog(LogOptions options = {}, kindred::internal::CollectorHooks hooks = {},
                   bool with_sink = true)
      : life{std::make_shared<kindred::internal::ContextLife>(
            kindred::internal::ContextId::make(StartMethod::fork))},
        options_{patient(options)},
        collector{kindred::internal::LogTestAccess::key(), life, options_, std::move(hooks)},
        logger{kindred::internal::LogTestAccess::key(), collector} {
    if (with_sink) {
      logger.add_sink([this](const LogRecord& record) {
        const std::lock_guard hold{lock_};
        records_.push_back(record);
      });
    }
  }
  [[nodiscard]] const LogOptions& options() const noexcept { return options_; }
  /// What has arrived so far.
  [[nodiscard]] std::vector<LogRecord> seen() const {
    const std::lock_guard hold{lock_};
    return {records_.begin(), records_.end()};
  }
  /// All that was committed until now.
  [[nodiscard]] std::vector<LogRecord> records() {
    CHECK(logger.flush());
    return seen();
  }
  [[nodiscard]] std::vector<std::string> messages() {
    std::vector<std::string> texts;
    for (const auto& record : records()) texts.push_back(record.message);
    return texts;
  }

  std::shared_ptr<kindred::internal::ContextLife> life;

 private:
  static LogOptions patient(LogOptions options) {
    if (options.block_limit == LogOptions{}.block_limit) options.block_limit = std::chrono::hours{1};
    if (options.flush_limit == LogOptions{}.flush_limit) options.flush_limit = std::chrono::hours{1};
    return options;
  }

  LogOptions options_;
  mutable std::mutex lock_;
  std::deque<LogRecord>
      records_;  // moves nothing when it grows: a sink that takes longer than `block_limit` costs records

 public:
  kindred::internal::Collector collector;
  ExecutorLogger logger;
};

/// A forked process that logs to a `TestLog` as a worker does.
class LogProcess {
 public:
  LogProcess(TestLog& log, int worker, const std::function<void()>& body, std::uint32_t incarnation = 1)
      : log_{log}, pages_{std::make_shared<SharedPages>(kindred::internal::log_area_bytes(log.options()))} {
    id_ = log.collector.add_source(pages_->bytes(), {.worker = worker, .incarnation = incarnation, .pid = 0},
                                   pages_);
    const int bell = ::dup(log.collector.bell_fd());
    std::fflush(nullptr);  // what is buffered here would be written again by a child that leaves by exit
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      kindred::internal::attach_log(pages_->bytes(),
                                    kindred::internal::SharedBell{kindred::internal::Descriptor{bell}},
                                    {.context = log.life->id,
                                     .worker = worker,
                                     .incarnation = incarnation,
                                     .pid = static_cast<std::uint32_t>(::getpid())});
      body();
      ::_exit(0);
    }
    ::close(bell);
    log.collector.set_source_pid(id_, static_cast<std::uint32_t>(pid_));
  }
  LogProcess(const LogProcess&) = delete;
  LogProcess& operator=(const LogProcess&) = delete;
  ~LogProcess() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    if (!finished_) finish();
  }
  /// Returns the status that waitpid gives.
  int wait() {
    int status = 0;
    if (pid_ > 0) REQUIRE(::waitpid(std::exchange(pid_, -1), &status, 0) > 0);
    return status;
  }
  kindred::internal::SourceEnd finish(kindred::internal::Deadline deadline = {}) {
    finished_ = true;
    return log_.collector.finish_source(id_, deadline);
  }
  /// Waits for its end, which must be a clean one, and collects the rest.
  kindred::internal::SourceEnd end() {
    CHECK(wait() == 0);
    return finish();
  }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] kindred::internal::SourceId id() const noexcept { return id_; }
  [[nodiscard]] std::span<std::byte> area() const noexcept { return pages_->bytes(); }

 private:
  TestLog& log_;
  std::shared_ptr<SharedPages> pages_;
  kindred::internal::SourceId id_{};
  pid_t pid_ = -1;
  bool finished_ = false;
};

}  // namespace kindred::test
