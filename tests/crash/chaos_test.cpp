// Everything at once, at random, judged from outside: workers and fork servers are killed and stopped, tasks
// cancelled and over their time, pools resized, recycled, shut down and terminated, while tasks use shared
// objects. Each task writes to a file of its own, beside the pool, what it has done; results and records are
// compared with it. Rows 1, 2, 4, 9 and 10 in the long size.
//   chaos_test [--seconds=N] [--seed=N] [--start-method=fork|spawn|forkserver]
// Without: KINDRED_TEST_CHAOS_SECONDS (60) under each start method.
// ctest: LABELS long TIMEOUT 4600 COST 300
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

namespace {

// --- what tasks do

std::int64_t answer_of(std::int64_t id) { return id * 2'654'435'761 % 1'000'003; }

// One line in one write, and none over the end of a page, where the kernel looks whether its writer was
// killed: it is there or it is not.
void tell(const std::string& oracle, const char* what, std::int64_t id) {
  const int file = ::open(oracle.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  constexpr std::size_t line_bytes = 32;
  std::string line = std::string{what} + " " + std::to_string(id);
  line.resize(line_bytes - 1, ' ');
  line += '\n';
  if (file < 0 || ::write(file, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
  ::close(file);
}

// Told after the record is committed: what the file says must be in the log.
std::vector<std::int64_t> work(const std::string& oracle, std::int64_t id, int kind,
                               const std::vector<std::int64_t>& ballast, Mutex mutex, Counter counter) {
  log_info("begins {}", id);
  tell(oracle, "begins", id);
  for (const auto each : ballast) {
    if (each != id) std::abort();  // arguments of another task, or torn ones
  }
  std::vector<std::int64_t> result(kind == 1 ? 20'000 : 1, answer_of(id));
  if (kind == 2) std::this_thread::sleep_for(3ms);
  if (kind == 3) {
    const std::scoped_lock lock{mutex};
    ++counter;
  }
  if (kind == 4) {
    while (!this_worker().stop_requested()) std::this_thread::sleep_for(500us);
  }
  for (volatile int i = 0; i < 5000;) i = i + 1;
  log_info("ends {}", id);
  tell(oracle, "ends", id);
  if (kind == 5) throw std::runtime_error{std::to_string(id)};
  return result;
}
void begin_worker() { log_info("a worker begins"); }

// --- the driver

std::string option(const std::string& name, const std::string& otherwise) {
  std::ifstream file{"/proc/self/cmdline"};
  for (std::string word; std::getline(file, word, '\0');) {
    if (word.rfind("--" + name + "=", 0) == 0) return word.substr(name.size() + 3);
  }
  return otherwise;
}

struct Sums {
  std::int64_t pools = 0, tasks = 0, right = 0, wrong = 0, lost = 0, timed_out = 0, cancelled = 0, threw = 0,
               ended = 0, hung = 0;
  std::int64_t kills = 0, server_kills = 0, stops = 0, restarts = 0;
  std::int64_t records = 0, lost_records = 0, duplicates = 0, false_records = 0, dropped = 0;
  std::string first_wrong;
  void note_wrong(std::int64_t& count, const std::string& what) {
    if (++count == 1 && first_wrong.empty()) first_wrong = what;
  }
};

struct Task {
  std::int64_t id;
  int kind;
  Future<std::vector<std::int64_t>> future;
  char outcome = '?';  // value, lost, cancelled, timed out, threw, ended with the pool
  bool was_begun = false;
};

// Kills and stops whatever of the pool's it finds, until it is told to cease.
class Havoc {
 public:
  Havoc(ProcessPoolExecutor& pool, unsigned seed, Sums& sums)
      : pool_{&pool}, sums_{&sums}, random_{seed}, thread_{[this] { run(); }} {}
  Havoc(const Havoc&) = delete;
  Havoc& operator=(const Havoc&) = delete;
  ~Havoc() {
    cease_ = true;
    thread_.join();
  }
  std::atomic<std::int64_t> progress{0};

 private:
  void run() {
    std::vector<pid_t> stopped;
    while (!cease_) {
      const auto seen = progress.load();
      std::this_thread::sleep_for(std::chrono::microseconds{random_() % 4000});
      // A death is followed by progress, or no worker would ever live long enough. But a process may be
      // stopped: then it goes on first.
      for (int i = 0; progress == seen && !cease_ && i < 20; ++i) std::this_thread::sleep_for(200us);
      for (const pid_t pid : stopped) ::kill(pid, random_() % 2 == 0 ? SIGCONT : SIGKILL);
      for (const pid_t pid : stopped) ::kill(pid, SIGCONT);
      stopped.clear();
      const auto what = random_() % 40;
      if (what == 0) {
        for (const auto& process : descendants(::getpid())) {
          if (process.name != "kindred-server" || is_ended(process.state)) continue;
          ++sums_->server_kills;
          ::kill(process.pid, SIGKILL);
        }
        continue;
      }
      if (what == 1) {
        pool_->resize(1 + random_() % 4);
        continue;
      }
      const auto pids = pool_->worker_pids();
      if (pids.empty()) continue;
      const auto pid = static_cast<pid_t>(pids[random_() % pids.size()]);
      if (what < 6) {
        ++sums_->stops;  // it may be killed while it is stopped
        ::kill(pid, SIGSTOP);
        stopped.push_back(pid);
      } else {
        ++sums_->kills;
        ::kill(pid, SIGKILL);
      }
    }
    for (const pid_t pid : stopped) ::kill(pid, SIGCONT);
  }

  ProcessPoolExecutor* pool_;
  Sums* sums_;
  std::mt19937 random_;
  std::atomic<bool> cease_{false};
  std::thread thread_;
};

// One pool's life.
void one_pool(StartMethod method, std::mt19937& random, const std::string& oracle, std::int64_t& next_id,
              Sums& sums) {
  write_file(oracle, "");
  std::map<std::string, int> delivered;  // written by the log's thread, read after the pool's end
  std::vector<Task> tasks;
  bool by_force = false;
  {
    ExecutorOptions options{.start_method = method,
                            .max_workers = static_cast<int>(1 + random() % 3),
                            .initializer = begin_worker,
                            .restart_limit = {.count = 1'000'000, .period = 1s},
                            .spin = random() % 2 == 0};
    if (random() % 3 == 0) options.max_tasks_per_worker = static_cast<int>(1 + random() % 30);
    if (random() % 3 == 0) options.idle_timeout = 5ms;
    if (random() % 4 == 0) options.worker.capture_output = true;
    if (random() % 3 == 0) options.max_pending = 20;
    ProcessPoolExecutor pool{entry(), options};
    ++sums.pools;
    pool.logger().add_sink([&](const LogRecord& record) {
      if (record.origin == Origin::log) ++delivered[record.message];
    });
    const Mutex mutex = pool.make_mutex();
    const Counter counter = pool.make_counter(0);
    {
      Havoc havoc{pool, static_cast<unsigned>(random()), sums};
      const int rounds = 1 + static_cast<int>(random() % 6);
      for (int round = 0; round < rounds; ++round) {
        const std::size_t first = tasks.size();
        for (int i = 0; i < 60; ++i) {
          const std::int64_t id = next_id++;
          const auto draw = random() % 40;
          const int kind = draw == 0 ? 1 : draw < 3 ? 2 : draw < 7 ? 3 : draw == 7 ? 4 : draw == 8 ? 5 : 0;
          TaskOptions how;
          if (kind == 4) how.timeout = 10ms;  // it would never end by itself
          if (random() % 50 == 0) how.priority = static_cast<int>(random() % 3);
          const std::vector<std::int64_t> ballast(random() % 10 == 0 ? random() % 200'000 : random() % 3, id);
          tasks.push_back({id, kind, pool.submit(how, work, oracle, id, kind, ballast, mutex, counter)});
        }
        sums.tasks += 60;
        for (std::size_t i = first; i < tasks.size(); ++i) {
          Task& task = tasks[i];
          if (random() % 25 == 0) (void)task.future.cancel(random() % 2 == 0 ? Running::kill : Running::ask);
          if (!task.future.wait_for(120s)) {
            sums.note_wrong(sums.hung, "task " + std::to_string(task.id) + " did not end within 120 s");
            for (;;) std::this_thread::sleep_for(1s);  // the watchdog prints the stacks of all processes
          }
          ++havoc.progress;
        }
      }
    }
    switch (random() % 5) {  // with some that are still to do
      case 0: break;
      case 1: pool.shutdown({.wait = true, .cancel_pending = true}); break;
      default:
        for (int i = 0; i < 12; ++i) {
          const std::int64_t id = next_id++;
          tasks.push_back(
              {id, 0, pool.submit(work, oracle, id, 0, std::vector<std::int64_t>{}, mutex, counter)});
        }
        sums.tasks += 12;
        by_force = true;
        if (random() % 3 == 0)
          pool.terminate_workers();
        else if (random() % 2 == 0)
          pool.kill_workers();
        else
          by_force = false;
    }
    for (Task& task : tasks) {
      if (!task.future.wait_for(120s)) {
        sums.note_wrong(sums.hung,
                        "task " + std::to_string(task.id) + " did not end within 120 s of the end");
        for (;;) std::this_thread::sleep_for(1s);
      }
      try {
        const auto value = task.future.get();
        task.outcome = 'v';
        if (value.size() == (task.kind == 1 ? 20'000U : 1U) && value.back() == answer_of(task.id))
          ++sums.right;
        else
          sums.note_wrong(sums.wrong, "task " + std::to_string(task.id) + " has a wrong value");
      } catch (const WorkerLost&) {
        task.outcome = by_force ? 'f' : 'l';
        ++(by_force ? sums.ended : sums.lost);
      } catch (const TaskTimeout&) {
        task.outcome = 't';
        ++sums.timed_out;
        if (task.kind != 4)
          sums.note_wrong(sums.wrong,
                          "task " + std::to_string(task.id) + " has no limit, and was over its time");
      } catch (const Cancelled&) {
        task.outcome = 'c';
        ++sums.cancelled;
      } catch (const BrokenProcessPool& error) {
        task.outcome = 'f';
        ++sums.ended;
        if (!by_force) sums.note_wrong(sums.wrong, error.what());
      } catch (const std::runtime_error& error) {
        task.outcome = 'e';
        ++sums.threw;
        if (task.kind != 5) sums.note_wrong(sums.wrong, error.what());
      }
    }
    const auto stats = pool.stats();
    sums.restarts += static_cast<std::int64_t>(stats.restarts);
    sums.dropped += static_cast<std::int64_t>(stats.log.dropped);
  }
  // What the tasks themselves say, against what the pool delivered.
  std::map<std::string, int> told;
  std::istringstream lines{read_file(oracle)};
  for (std::string line; std::getline(lines, line);) ++told[line.substr(0, line.find_last_not_of(' ') + 1)];
  for (const auto& [line, count] : told) {
    ++sums.records;
    if (count > 1) sums.note_wrong(sums.wrong, "it ran twice: " + line);
    if (!delivered.contains(line))
      sums.note_wrong(sums.lost_records, "committed, and not delivered: " + line);
  }
  for (const auto& [message, count] : delivered) {
    if (message != "a worker begins" && count > 1)
      sums.note_wrong(sums.duplicates, "delivered twice: " + message);
  }
  for (const Task& task : tasks) {
    const std::string id = std::to_string(task.id);
    const bool began = told.contains("begins " + id);
    const bool ended = told.contains("ends " + id);
    if ((task.outcome == 'v' || task.outcome == 'e') && !(began && ended))
      sums.note_wrong(sums.wrong, "a result of a task that did not end: " + id);
    if (delivered.contains("ends " + id) && !delivered.contains("begins " + id))
      sums.note_wrong(sums.lost_records, "the first of two is missing: " + id);
    if (task.outcome == '?') sums.note_wrong(sums.wrong, "no outcome: " + id);
  }
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "an hour of chaos, or as long as was asked for: nothing hangs, nothing is lost, nothing is left (rows 1, 2, 4, 9)") {
  if (const auto only = option("start-method", ""); !only.empty() && only != to_string(method))
    KINDRED_SKIP("another start method was asked for");
  const char* const asked = std::getenv("KINDRED_TEST_CHAOS_SECONDS");
  const auto seconds = std::chrono::seconds{std::stol(option("seconds", asked != nullptr ? asked : "60"))};
  const char* const given = std::getenv("KINDRED_TEST_SEED");
  const auto seed = static_cast<unsigned>(
      std::stoul(option("seed", given != nullptr ? given : std::to_string(std::random_device{}()))));
  const std::string name{to_string(method)};
  std::printf("chaos: --start-method=%s --seed=%u --seconds=%lld\n", name.c_str(), seed,
              static_cast<long long>(seconds.count()));
  const Deadline deadline{seconds + 240s};
  TemporaryFolder folder;
  ResourceAudit audit;
  std::mt19937 random{seed};
  Sums sums;
  std::int64_t next_id = 1;
  std::int64_t rss_early = 0;
  auto said = steady_clock::now();
  for (const auto until = said + seconds; steady_clock::now() < until;) {
    one_pool(method, random, folder / "oracle", next_id, sums);
    if (rss_early == 0 && sums.restarts >= 100) rss_early = resident_kib();
    if (steady_clock::now() - said > 60s) {
      said = steady_clock::now();
      std::printf("chaos: %lld pools, %lld tasks, %lld kills so far; %lld KiB\n",
                  static_cast<long long>(sums.pools), static_cast<long long>(sums.tasks),
                  static_cast<long long>(sums.kills + sums.server_kills),
                  static_cast<long long>(resident_kib()));
      std::fflush(stdout);
    }
    if (sums.wrong + sums.lost_records + sums.duplicates > 20) break;
  }
  INFO(sums.first_wrong, " (seed ", seed, ")");
  CHECK(sums.wrong == 0);
  CHECK(sums.hung == 0);
  CHECK(sums.duplicates == 0);
  CHECK((sums.lost_records == 0 || sums.dropped != 0));
  CHECK(sums.lost <= sums.kills + sums.stops);
  CHECK(sums.kills > seconds.count() / 4);
  const auto number = [](std::int64_t value) { return static_cast<long long>(value); };
  std::printf(
      "chaos: %s, seed %u: %lld pools, %lld tasks (%lld right, %lld lost, %lld over their time, %lld cancelled, %lld threw, %lld ended with their pool), "
      "%lld kills of workers, %lld of servers, %lld stops, %lld restarts\n",
      name.c_str(), seed, number(sums.pools), number(sums.tasks), number(sums.right), number(sums.lost),
      number(sums.timed_out), number(sums.cancelled), number(sums.threw), number(sums.ended),
      number(sums.kills), number(sums.server_kills), number(sums.stops), number(sums.restarts));
  scorecard(1, fmt::format("chaos of {} s: {} kills and stops, {} tasks, {} hangs", seconds.count(),
                           sums.kills + sums.server_kills + sums.stops, sums.tasks, sums.hung));
  scorecard(2, fmt::format("chaos: {} tasks lost in {} kills and stops, {} results wrong", sums.lost,
                           sums.kills + sums.stops, sums.wrong));
  scorecard(4, fmt::format("chaos: {} committed records, {} lost, {} twice, {} dropped by policy",
                           sums.records, sums.lost_records, sums.duplicates, sums.dropped));
  audit.finish();
  scorecard(
      9,
      fmt::format(
          "chaos: nothing more than before after {} pools of all kinds and {} restarts; resident {} KiB after 100 restarts, {} KiB at the end",
          sums.pools, sums.restarts, rss_early, resident_kib()));
}
