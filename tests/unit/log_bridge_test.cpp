// spdlog in a worker: every logger leads into the one log.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include <spdlog/async.h>
#include <spdlog/details/registry.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

/// Loggers of a program, as they are when its workers are forked. Gone with the object.
struct ProgramsLoggers {
  ~ProgramsLoggers() {
    spdlog::drop_all();
    spdlog::details::registry::instance().set_tp(nullptr);
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stdout_color_sink_mt>()));
  }
};

std::vector<LogRecord> bridged(const std::function<void()>& body) {
  TestLog log;
  LogProcess process{log, 0, [&body] {
                       kindred::internal::bridge_spdlog();
                       body();
                       std::fflush(nullptr);
                     }};
  CHECK(process.end().corrupt == false);
  return log.records();
}

}  // namespace

TEST_CASE(
    "spdlog's default logger and every registered one write into the log, with names, levels, places and threads") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  const ProgramsLoggers loggers;
  auto net = std::make_shared<spdlog::logger>("net", std::make_shared<spdlog::sinks::stdout_color_sink_mt>());
  net->set_level(spdlog::level::warn);
  spdlog::register_logger(net);
  const auto records = bridged([&net] {
    spdlog::info("default {}", 1);
    SPDLOG_ERROR("with a place");
    net->info("below its level");
    net->warn("named {}", 2.5);
    spdlog::get("net")->critical("worst");
    std::thread{[] { spdlog::info("from a thread"); }}.join();
    kindred::internal::enter_task({.task_id = 6, .attempt = 1, .function_reference = 0, .name = "task"});
    const LogScope scope{{"request", 1}};
    spdlog::info("in a task");
  });
  REQUIRE(records.size() == 6);
  CHECK(records[0].message == "default 1");
  CHECK(records[0].logger.empty());
  CHECK(records[0].level == Level::info);
  CHECK(records[0].tid == records[0].pid);
  CHECK(records[1].level == Level::error);
  CHECK(records[1].source.file == std::string_view{__FILE__});
  CHECK(records[1].source.line > 40);
  CHECK(records[2].logger == "net");
  CHECK(records[2].level == Level::warn);
  CHECK(records[2].message == "named 2.5");
  CHECK(records[3].level == Level::critical);
  CHECK(records[4].message == "from a thread");
  CHECK(records[4].tid != records[4].pid);
  CHECK(records[5].task_id == 6);
  CHECK(records[5].fields.size() == 1);
}

TEST_CASE("a record that names another thread changes nothing for those of its own thread that follow") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  const ProgramsLoggers loggers;
  const auto later = spdlog::create_async<spdlog::sinks::stdout_color_sink_mt>("later");
  const auto records = bridged([&later] {
    for (int i = 0; i < 3; ++i) {
      kindred::log_info("mine {}", i);
      spdlog::details::log_msg another{"later", spdlog::level::info, "another's"};
      another.thread_id = 4711;
      later->sinks().front()->log(another);
    }
  });
  REQUIRE(records.size() == 6);
  for (std::size_t i = 0; i < records.size(); i += 2) {
    CHECK(records[i].tid == records[i].pid);
    CHECK(records[i + 1].tid == 4711);
  }
}

TEST_CASE("the level that the parent sets counts for bridged loggers too") {
  const ProgramsLoggers loggers;
  TestLog log;
  log.logger.set_level("noisy", Level::error);
  LogProcess process{log, 0, [] {
                       kindred::internal::bridge_spdlog();
                       spdlog::set_level(spdlog::level::trace);
                       spdlog::debug("below info");
                       auto noisy = spdlog::stdout_color_mt("noisy");
                       noisy->warn("below error");
                       noisy->error("seen");
                     }};
  process.end();
  CHECK(log.messages() == std::vector<std::string>{"seen"});
}

TEST_CASE(
    "loggers that are made after the bridge join it, once for each message, however many sinks they have") {
  const ProgramsLoggers loggers;
  const auto records = bridged([] {
    spdlog::stdout_color_mt("late")->info("one");
    auto several = std::make_shared<spdlog::logger>(
        "several", spdlog::sinks_init_list{std::make_shared<spdlog::sinks::stdout_color_sink_mt>(),
                                           std::make_shared<spdlog::sinks::stderr_color_sink_mt>()});
    spdlog::initialize_logger(several);
    for (int i = 0; i < 3; ++i) several->warn("{}", i);
    spdlog::get("several")->clone("clone")->info("cloned");
  });
  std::vector<std::string> texts;
  for (const auto& record : records) texts.push_back(record.logger + ":" + record.message);
  CHECK(texts == std::vector<std::string>{"late:one", "several:0", "several:1", "several:2", "clone:cloned"});
}

TEST_CASE("asynchronous loggers of the parent have no thread in a worker, and log all the same") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  const ProgramsLoggers loggers;
  auto held = spdlog::create_async<spdlog::sinks::stdout_color_sink_mt>("background");
  held->info("of the parent, so that its thread is busy");
  const auto records = bridged([&held] {
    spdlog::get("background")->info("from the registry");
    for (int i = 0; i < 20'000; ++i) held->info("{}", i);  // more than the queue holds
    held.reset();
  });
  std::vector<std::string> of_held;
  for (const auto& record : records) {
    if (record.logger == "background" && record.message != "from the registry")
      of_held.push_back(record.message);
  }
  CHECK(std::any_of(records.begin(), records.end(),
                    [](const auto& r) { return r.message == "from the registry"; }));
  // The last 8192 at most are still in its queue when the process ends, and one more in the hands of its
  // thread.
  CHECK(of_held.size() >= 20'000 - 8192 - 1);
  CHECK(of_held.front() == "0");
}

TEST_CASE("a worker neither flushes nor closes what the parent's loggers have buffered") {
  const ProgramsLoggers loggers;
  const TemporaryFolder folder;
  const auto path = folder / "parent.log";
  spdlog::set_default_logger(spdlog::basic_logger_st("file", path));
  spdlog::info("buffered in the parent");
  pid_t child = -1;
  kindred::internal::with_spdlog_registry_held([](void* pid) { *static_cast<pid_t*>(pid) = ::fork(); },
                                               &child);
  if (child == 0) {
    kindred::internal::bridge_spdlog();
    ::close(2);
    spdlog::info("in the worker");
    spdlog::default_logger()->flush();
    spdlog::shutdown();
    std::exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  spdlog::info("after the fork");
  spdlog::default_logger()->flush();
  const auto text = read_file(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK(!contains(text, "in the worker"));
}

TEST_CASE("a worker that leaves by exit does not wait for spdlog threads that only the parent has") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  const ProgramsLoggers loggers;
  spdlog::flush_every(std::chrono::seconds{1});
  auto held = spdlog::create_async<spdlog::sinks::stdout_color_sink_mt>("background");
  static_cast<void>(bridged([] {
    spdlog::info("and out");
    std::exit(0);
  }));
  spdlog::flush_every(std::chrono::seconds{0});
}

TEST_CASE("a worker that does not bridge spdlog leaves by exit all the same") {
  const ProgramsLoggers loggers;
  spdlog::flush_every(std::chrono::seconds{1});
  auto held = spdlog::create_async<spdlog::sinks::stdout_color_sink_mt>("background");
  TestLog log;
  LogProcess process{log, 0, [] { std::exit(0); }};
  process.end();
  spdlog::flush_every(std::chrono::seconds{0});
}

TEST_CASE(
    "workers forked under the registry's lock never find it locked, however busy the parent's loggers are") {
  const ProgramsLoggers loggers;
  TestLog log;
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int t = 0; t < 3; ++t) {
    busy.emplace_back([&stop, t] {
      for (int i = 0; !stop; ++i) {
        const auto name = "busy" + std::to_string(t) + "-" + std::to_string(i);
        spdlog::register_logger(std::make_shared<spdlog::logger>(
            name, std::make_shared<spdlog::sinks::ostream_sink_mt>(std::cerr)));
        spdlog::set_level(spdlog::level::info);
        spdlog::drop(name);
      }
    });
  }
  const int forks = long_run() ? 1000 : 100;
  for (int i = 0; i < forks; ++i) {
    pid_t child = -1;
    kindred::internal::with_spdlog_registry_held([](void* pid) { *static_cast<pid_t*>(pid) = ::fork(); },
                                                 &child);
    if (child == 0) {
      kindred::internal::bridge_spdlog();
      spdlog::get("busy0-1");
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(status == 0);
  }
  stop = true;
  for (auto& thread : busy) thread.join();
}

TEST_CASE("spdlog's registry may be empty when a worker is forked") {
  const ProgramsLoggers loggers;
  spdlog::drop_all();
  bool called = false;
  kindred::internal::with_spdlog_registry_held([](void* flag) { *static_cast<bool*>(flag) = true; }, &called);
  CHECK(called);
  const auto records = bridged([] { log_info("bridged nothing"); });
  CHECK(records.size() == 1);
}
