// What one sink is asked for beside its level and filter: when it is flushed, and that it says things once.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kindred/internal/sink.hpp"
#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

/// What a sink was given, and what of it was there at its latest flush.
struct Account {
  std::mutex lock;
  std::vector<LogRecord> written;
  std::size_t flushed = 0;
  std::atomic<int> flushes{0};

  std::vector<std::string> texts() {
    const std::scoped_lock hold{lock};
    std::vector<std::string> all;
    for (const auto& record : written) {
      std::string text = record.message;
      for (const auto& field : record.fields)
        if (field.key == "repeated") text += " x" + std::to_string(std::get<std::uint64_t>(field.value));
      all.push_back(text);
    }
    return all;
  }
  std::size_t flushed_now() {
    const std::scoped_lock hold{lock};
    return flushed;
  }
};

class AccountSink final : public kindred::internal::Sink {
 public:
  explicit AccountSink(Account& account) : account_{account} {}
  void write(const LogRecord& record) override {
    const std::scoped_lock hold{account_.lock};
    account_.written.push_back(record);
  }
  void flush() override {
    const std::scoped_lock hold{account_.lock};
    account_.flushed = account_.written.size();
    ++account_.flushes;
  }

 private:
  Account& account_;
};

AnySink into(Account& account) {
  return AnySink::of_maker(
      [&account](const SinkOptions&, std::string_view) -> std::unique_ptr<kindred::internal::Sink> {
        return std::make_unique<AccountSink>(account);
      });
}

}  // namespace

TEST_CASE("flush_on of a sink flushes it right after such a record") {
  Account account;
  TestLog log{{.level = Level::info}, {}, false};
  log.logger.add_sink(into(account), {.flush_on = Level::error});
  std::atomic<std::size_t> flushed_at_next{0};
  log.logger.on_record([&](LogRecord& record) {
    if (record.message == "next") flushed_at_next = account.flushed_now();
  });
  // In one round: nothing else would flush between the two.
  Gate held, go;
  log.logger.add_sink([&](const LogRecord& record) {
    if (record.message != "hold") return;
    held.open();
    go.pass();
  });
  log_info("hold");
  held.pass();
  log_error("an error");
  log_info("next");
  go.open();
  CHECK(log.logger.flush());
  CHECK(flushed_at_next == 2);
}

TEST_CASE("with flush_on of the log a call returns when its record is in every sink, flushed") {
  Account one, two;
  TestLog log{{.level = Level::info, .flush_on = Level::error}, {}, false};
  log.logger.add_sink(into(one));
  log.logger.add_sink(into(two));
  for (std::size_t i = 0; i < 200; ++i) {
    for (int before = 0; before < 3; ++before) log_info("before");
    if (i % 2 == 0)
      log_error("an error {}", i);
    else
      log_critical("a text of {} bytes: {}", i * 400, std::string(i * 400, 'x'));
    CHECK(one.flushed_now() >= 4 * (i + 1));
    CHECK(two.flushed_now() >= 4 * (i + 1));
  }
  // From several threads, more than have lanes of their own.
  std::vector<std::thread> threads;
  std::atomic<int> missing{0};
  for (int t = 0; t < 12; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const auto text = "thread " + std::to_string(t) + " " + std::to_string(i);
        log_error("{}", text);
        const auto texts = one.texts();
        if (std::find(texts.begin(), texts.end(), text) == texts.end()) ++missing;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(missing == 0);
}

TEST_CASE("flush_on of the log does not wait for a sink that hangs for longer than the limit") {
  Gate held, go;
  TestLog log{{.level = Level::info, .flush_limit = 50ms, .flush_on = Level::error}, {}, false};
  log.logger.add_sink([&](const LogRecord& record) {
    if (record.message != "hangs") return;
    held.open();
    go.pass();
  });
  log_error("hangs");
  held.pass();
  log_error("another one");
  go.open();
  // A flush gives up after 50 ms in which the collector had no processor.
  while (!log.logger.flush(10s)) {}
}

TEST_CASE("repetitions are folded: told by one record when something else comes, or at a flush") {
  Account account;
  TestLog log{{.level = Level::info}, {}, false};
  log.logger.add_sink(into(account), {.fold = std::chrono::hours{1}});
  for (int i = 0; i < 1000; ++i) log_warn("disk {} is full", "sda");
  log_warn("disk {} is full", "sdb");
  log_info("disk {} is full", "sdb");  // another level
  log_info("disk {} is full", "sdb", kv("n", 1));
  log_info("disk {} is full", "sdb", kv("n", 1));
  CHECK(log.logger.flush());
  CHECK(account.texts() == std::vector<std::string>{"disk sda is full", "disk sda is full x999",
                                                    "disk sdb is full", "disk sdb is full",
                                                    "disk sdb is full", "disk sdb is full x1"});
  log_info("disk {} is full", "sdb", kv("n", 1));
  CHECK(log.logger.flush());
  CHECK(account.texts().size() == 7);
  CHECK(account.texts().back() == "disk sdb is full x1");
  CHECK(log.logger.stats().committed == log.logger.stats().delivered);
}

TEST_CASE("repetitions are told when their time is over, without another record") {
  Account account;
  TestLog log{{.level = Level::info}, {}, false};
  Gate held, go;
  log.logger.on_record([&](LogRecord& record) {
    if (record.message != "first") return;
    held.open();
    go.pass();
  });
  log.logger.add_sink(into(account), {.fold = 1s});
  log_info("first");
  held.pass();
  for (int i = 0; i < 10; ++i) log_warn("again");
  go.open();  // so all ten are delivered together, also where the collector waits for a processor
  // Waits for the sink, which nobody flushes.
  const Deadline deadline{30s};
  while (account.texts().size() < 3) std::this_thread::yield();
  CHECK(account.texts() == std::vector<std::string>{"first", "again", "again x9"});
}

TEST_CASE("what a sink that is removed held back is told before it goes") {
  Account account;
  TestLog log{{.level = Level::info}, {}, false};
  const auto sink = log.logger.add_sink(into(account), {.fold = std::chrono::hours{1}});
  for (int i = 0; i < 3; ++i) log_warn("again");
  CHECK(log.logger.remove_sink(sink));
  CHECK(account.texts() == std::vector<std::string>{"again", "again x2"});
}
