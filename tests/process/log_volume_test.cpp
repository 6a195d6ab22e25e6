// A whole pool's log in bulk: 8 workers of 4 threads each, text, JSON and rotated gz at once. A million
// records under ./tests/run --long, a twentieth of that otherwise. The oracles are outside of the log: a
// counter that all processes share is the one clock, and an array holds what each thread has committed, so
// that it outlives who is killed.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kindred/kindred.hpp"
#include "kindred/read_log.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr int workers = 8;
constexpr int threads = 4;
constexpr int lines = 500;  // of each thread of a task
constexpr std::int64_t unknown = INT64_MAX;

/// Each record holds what the clock was before its own call, and after the former call of its thread.
void write_lines(int task, Counter clock, SharedArray<std::uint64_t> committed) {
  std::vector<std::thread> all;
  for (int thread = 0; thread < threads; ++thread) {
    all.emplace_back([task, thread, clock, committed] {
      std::atomic_ref told{committed.mutable_span()[static_cast<std::size_t>(task * threads + thread)]};
      std::int64_t ended = 0;
      for (int line = 0; line < lines; ++line) {
        log_info("{} {} {} {} {}", task, thread, line, clock.fetch_add(1), ended);
        ended = clock.fetch_add(1);
        told.store(static_cast<std::uint64_t>(line) + 1, std::memory_order_release);
      }
    });
  }
  for (auto& thread : all) thread.join();
}

struct Line {
  int task = 0;
  int thread = 0;
  int line = 0;
  std::int64_t begun = 0;
  std::int64_t ended = unknown;
  std::int64_t time = 0;  // ns
  bool late = false;
};

/// How far a record may stand before one whose call had returned before theirs began: what a CPU reads ahead
/// (order_and_watermark.md).
constexpr std::chrono::nanoseconds order_bound = 2us;  // as order_and_watermark.md promises

/// Is there no record whose call began after that of another one had returned, and that stands before it all
/// the same, with a time that is earlier by more than `bound`? Late ones aside: they say of themselves that
/// they stand too far behind.
bool in_order(const std::vector<Line>& log, std::chrono::nanoseconds bound) {
  std::int64_t earliest_end = unknown;  // of those whose time is later by more than the bound
  auto after = log.rbegin();
  for (auto line = log.rbegin(); line != log.rend(); ++line) {
    if (line->late) continue;
    for (; after != line && after->time - line->time > bound.count(); ++after) {
      if (!after->late) earliest_end = std::min(earliest_end, after->ended);
    }
    if (earliest_end < line->begun) return false;
  }
  return true;
}

/// Each line tells when its thread's line before it had ended; puts that where it belongs.
void settle_ends(std::vector<Line>& log, std::size_t tasks) {
  std::vector<std::int64_t> next(tasks * threads, unknown);
  for (auto line = log.rbegin(); line != log.rend(); ++line)
    std::swap(line->ended, next[static_cast<std::size_t>(line->task * threads + line->thread)]);
}

struct Scale {
  std::size_t records;
  int kills;
  int signal = SIGKILL;  // or SIGSTOP: each is stopped for longer than the others wait for it
};

void run(StartMethod method, Scale scale) {
  ResourceAudit audit;
  Deadline deadline{long_run() ? 600s : 60s};
  TemporaryFolder folder;
  constexpr std::size_t per_task = threads * lines;
  const std::size_t tasks = scale.records / per_task;
  const std::size_t max_tasks = tasks + static_cast<std::size_t>(scale.kills) * 20 + 64;
  std::vector<std::uint64_t> committed;
  std::vector<bool> done(max_tasks, false);
  std::size_t submitted = 0;
  std::size_t lost = 0;
  LogStats stats;
  std::atomic<std::size_t> killed{0};
  const auto begun = std::chrono::steady_clock::now();
  auto flushed = begun;
  {
    ProcessPoolExecutor pool{
        entry(),
        {.start_method = method,
         .max_workers = workers,
         .restart_limit = {.count = 100'000},
         .log = {.block_limit = 1h, .hold_limit = scale.signal == SIGSTOP ? 2ms : 100ms}}};
    std::atomic<std::uint64_t> delivered{0};
    pool.logger().add_sink([&](const LogRecord&) {
      delivered.fetch_add(1);
      delivered.notify_all();
    });
    pool.logger().add_sink(sinks::file(folder / "text.log"));
    pool.logger().add_sink(sinks::json(folder / "log.json"));
    pool.logger().add_sink(sinks::file(folder / "turned.log", {.rotate = long_run() ? "16 MiB" : "800 KiB",
                                                               .compression = Compression::gz}));
    const auto clock = pool.make_counter(1);
    const auto told = pool.make_array<std::uint64_t>(max_tasks * threads, ArrayAccess::all_write);
    std::atomic<bool> stop{false};
    std::thread killer{[&] {
      std::mt19937 random{static_cast<unsigned>(std::random_device{}())};
      while (killed < static_cast<std::size_t>(scale.kills) && !stop) {
        const auto until = (killed + 1) * scale.records / static_cast<std::size_t>(scale.kills + 1);
        for (auto seen = delivered.load(); scale.signal == SIGKILL && seen < until && !stop;
             seen = delivered.load())
          delivered.wait(seen);
        const auto pids = pool.worker_pids();
        if (pids.empty()) continue;
        const auto pid = static_cast<pid_t>(pids[random() % pids.size()]);
        if (::kill(pid, scale.signal) == 0) ++killed;
        if (scale.signal != SIGSTOP) continue;
        std::this_thread::sleep_for(10ms);  // the time is the case, not a wait for something
        ::kill(pid, SIGCONT);
      }
    }};
    std::vector<Future<void>> futures;
    const auto take = [&](std::size_t task) {
      try {
        futures[task].get();
        done[task] = true;
      } catch (const WorkerLost&) {
        ++lost;
      }
    };
    std::size_t taken = 0;
    for (;;) {
      const bool more = (submitted < tasks + lost || killed < static_cast<std::size_t>(scale.kills)) &&
                        submitted < max_tasks;
      if (more && submitted - taken <= 2 * workers)
        futures.push_back(pool.submit(write_lines, static_cast<int>(submitted++), clock, told));
      else if (taken < submitted)
        take(taken++);
      else
        break;
    }
    stop = true;
    delivered.fetch_add(1);
    delivered.notify_all();
    killer.join();
    CHECK(pool.logger().flush());
    flushed = std::chrono::steady_clock::now();
    stats = pool.logger().stats();
    committed.assign(told.begin(), told.end());
  }

  // The three files hold the same records in the same order, all that a line of each carries.
  std::vector<Line> log;
  std::size_t late = 0;
  std::size_t different = 0;
  std::size_t malformed = 0;
  std::vector<std::uint64_t> found(max_tasks * threads, 0);
  std::size_t others = 0;
  std::int64_t last_time = 0;
  std::size_t backwards = 0;
  auto text = read_log(folder / "text.log", {.strict = true});
  auto json = read_log(folder / "log.json", {.strict = true});
  auto turned = read_log(folder / "turned.log", {.rotated = true, .strict = true});
  while (const LogRecord* const record = json.next()) {
    for (auto* const file : {&text, &turned}) {
      const LogRecord* const same = file->next();
      if (same == nullptr || same->message != record->message || same->worker != record->worker ||
          same->task_id != record->task_id || same->late != record->late ||
          std::chrono::floor<std::chrono::microseconds>(record->time) != same->time) {
        ++different;
      }
    }
    late += record->late ? 1U : 0U;
    if (!record->late) {
      backwards += record->time.time_since_epoch().count() < last_time ? 1U : 0U;
      last_time = record->time.time_since_epoch().count();
    }
    if (record->origin != Origin::log || record->worker < 0) {
      ++others;
      continue;
    }
    std::array<std::int64_t, 5> numbers{};
    const char* at = record->message.c_str();
    for (auto& number : numbers) {
      char* end = nullptr;
      number = std::strtoll(at, &end, 10);
      malformed += end == at ? 1U : 0U;
      at = end;
    }
    log.push_back({.task = static_cast<int>(numbers[0]),
                   .thread = static_cast<int>(numbers[1]),
                   .line = static_cast<int>(numbers[2]),
                   .begun = numbers[3],
                   .ended = numbers[4],
                   .time = record->time.time_since_epoch().count(),
                   .late = record->late});
    // Exactly once, and each thread's in its order.
    auto& count = found[static_cast<std::size_t>(log.back().task * threads + log.back().thread)];
    malformed += count++ == static_cast<std::uint64_t>(log.back().line) ? 0U : 1U;
  }
  CHECK(text.next() == nullptr);
  CHECK(turned.next() == nullptr);
  CHECK(different == 0);
  CHECK(malformed == 0);
  CHECK(backwards == 0);
  CHECK(late == stats.late);
  CHECK(stats.dropped == 0);
  CHECK(stats.committed == stats.delivered);
  CHECK(log.size() == stats.committed);
  settle_ends(log, max_tasks);
  CHECK(in_order(log, order_bound));
  auto within = 0ns;
  while (within < order_bound && !in_order(log, within)) within = std::max(10ns, within * 3 / 2);

  std::size_t missing = 0;
  std::size_t invented = 0;
  for (std::size_t slot = 0; slot < found.size(); ++slot) {
    missing += found[slot] < committed[slot] ? 1U : 0U;
    // Between a record's commit and its being told the process may have died.
    invented += found[slot] > committed[slot] + (done[slot / threads] ? 0U : 1U) ? 1U : 0U;
    if (done[slot / threads]) CHECK(committed[slot] == lines);
  }
  CHECK(missing == 0);
  CHECK(invented == 0);
  CHECK(lost <= (scale.signal == SIGKILL ? killed.load() : 0));
  CHECK(killed == static_cast<std::size_t>(scale.kills));
  CHECK(log.size() >= scale.records);
  std::size_t files = 0;
  for (const auto& sink : stats.sinks) files += sink.written == stats.delivered + stats.emitted ? 1U : 0U;
  CHECK(files == 4);
  const auto seconds = std::chrono::duration<double>(flushed - begun).count();
  MESSAGE(to_string(method), ": ", log.size(), " records of workers (and ", others, " others) in ", seconds,
          " s to three files, ", late, " late, order within ", within.count(), " ns; ", killed.load(),
          " workers killed or stopped, ", lost, " tasks lost");
}

Scale scale(int kills, int signal = SIGKILL) {
  return long_run() ? Scale{1'000'000, kills, signal} : Scale{50'000, kills / 20, signal};
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "records of 8 workers with 4 threads each are in text, JSON and rotated gz once each, in the order of one clock, and are read back") {
  run(method, scale(0));
}

TEST_CASE_EACH_START_METHOD(
    "the same while workers are killed: what was committed is there once, what was not is not") {
  run(method, scale(100));
}

TEST_CASE_EACH_START_METHOD(
    "the same while workers are stopped in the middle of log calls: what the others did not wait for is marked late and counted") {
  run(method, scale(400, SIGSTOP));
}
