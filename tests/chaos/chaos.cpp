// Pools under a seeded storm, judged by an oracle that stands outside of them.
//   chaos [--seconds N] [--seed N] [--start-method fork|spawn|forkserver|all] [--patience SECONDS]
//
// Pools live for some seconds, one after another and two at once, with random options. Against them: SIGKILL, SIGSEGV, SIGTERM and SIGSTOP with
// SIGKILL of workers, SIGKILL of fork servers, cancels of all kinds, time limits, resizes, recycling, crashing tasks, large values, shared locks, and
// ends of all kinds. Each task writes to a file, opened for appending, that it began and that it is done: what pools tell is compared with that.
// Prints a line for each life, and at the end what came of it all; exit status 1 where a promise was broken.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "kindred/kindred.hpp"

using namespace kindred;
using namespace std::chrono_literals;
using Random = std::mt19937_64;

namespace {

// --- what workers do

enum class Kind : int { quick, slow, large, crash, throws, locks, deaf, last = deaf };

struct Work {
  std::uint64_t number = 0;
  Kind kind = Kind::quick;
  std::uint64_t amount = 0;
};

void note(const std::string& file, char what, std::uint64_t number) {
  thread_local int fd = -1;
  if (fd < 0) fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  char line[32];
  const int size = std::snprintf(line, sizeof line, "%c %llu\n", what, static_cast<unsigned long long>(number));
  if (::write(fd, line, static_cast<std::size_t>(size)) != size) std::abort();
}

std::uint64_t answer_to(const Work& work) { return work.number * 2654435761U + work.amount; }

// The answer stands at both ends, so that a torn result is seen.
std::vector<std::uint64_t> run(const std::string& file, const Work& work, const std::vector<std::uint64_t>& ballast, Mutex mutex, Counter counter) {
  note(file, 'b', work.number);
  log_info("begins {}", work.number);
  switch (work.kind) {
    case Kind::quick: break;
    case Kind::slow: std::this_thread::sleep_for(std::chrono::microseconds{work.amount % 4000}); break;
    case Kind::large: break;
    case Kind::crash: ::raise(work.amount % 3 == 0 ? SIGSEGV : work.amount % 3 == 1 ? SIGKILL : SIGABRT); break;
    case Kind::throws: throw std::out_of_range{"number " + std::to_string(work.number)};
    case Kind::locks: {
      const std::scoped_lock lock{mutex};
      counter.fetch_add(1);
      break;
    }
    case Kind::deaf: std::this_thread::sleep_for(10s); break;
  }
  for (std::uint64_t i = 0; i < ballast.size(); i += 97) {
    if (ballast[i] != work.number + i) std::abort();  // arguments came torn
  }
  std::vector<std::uint64_t> answer(work.kind == Kind::large ? 1 + work.amount % 60'000 : 1, answer_to(work));
  log_info("ends {}", work.number);
  note(file, 'd', work.number);
  return answer;
}

// --- the oracle

struct Counts {
  std::atomic<std::uint64_t> tasks{0}, right{0}, lost{0}, timed_out{0}, cancelled{0}, threw{0}, broken{0}, kills{0}, lives{0}, records{0};
};
Counts counts;
std::atomic<std::uint64_t> broken_promises{0};
std::mutex print_mutex;

void promise_broken(const std::string& what) {
  const std::scoped_lock lock{print_mutex};
  std::fprintf(stderr, "BROKEN: %s\n", what.c_str());
  ++broken_promises;
}

struct Submitted {
  Future<std::vector<std::uint64_t>> future;
  Work work;
  int retries = 0;
  bool limited = false;
  bool killed = false;           // cancel(Running::kill) said true
  bool cancelled_early = false;  // cancel() said true: it never began
};

std::vector<pid_t> fork_servers() {
  std::vector<pid_t> found;
  std::ifstream children{"/proc/self/task/" + std::to_string(::getpid()) + "/children"};
  for (const auto& thread : std::filesystem::directory_iterator{"/proc/self/task"}) {
    std::ifstream list{thread.path() / "children"};
    for (pid_t pid = 0; list >> pid;) {
      std::ifstream comm{"/proc/" + std::to_string(pid) + "/comm"};
      std::string name;
      std::getline(comm, name);
      if (name == "kindred-server") found.push_back(pid);
    }
  }
  return found;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) ++count;
  return count;
}

std::size_t below_this_process() {
  std::size_t count = 0;
  std::error_code gone;
  for (const auto& thread : std::filesystem::directory_iterator{"/proc/self/task", gone}) {
    std::ifstream list{thread.path() / "children"};
    for (pid_t pid = 0; list >> pid;) ++count;
  }
  return count;
}

// The instant of the last progress, for the watchdog.
std::atomic<std::int64_t> last_progress{0};
void progress() { last_progress = std::chrono::steady_clock::now().time_since_epoch().count(); }

// --- one life of a pool

void live(Entry& entry, StartMethod method, Random& random, const std::string& folder) {
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  static std::atomic<std::uint64_t> files{0};
  const std::string file = folder + "/" + std::to_string(files++);
  std::ofstream{file}.close();

  ExecutorOptions options{.start_method = method,
                          .max_workers = static_cast<int>(1 + random() % 5),
                          .restart_limit = {.count = 1'000'000, .period = 10s}};
  if (one_in(3)) options.max_tasks_per_worker = static_cast<int>(20 + random() % 400);
  if (one_in(4)) options.idle_timeout = std::chrono::milliseconds{1 + random() % 20};
  if (one_in(4)) options.terminate_grace = std::chrono::milliseconds{1 + random() % 20};
  if (one_in(4)) options.max_pending = static_cast<int>(50 + random() % 200);
  if (one_in(3)) options.worker.capture_output = true;
  const bool clean_end = !one_in(3);

  std::unordered_map<std::string, int> delivered;  // by the collector's thread; read after the end
  std::vector<Submitted> all;
  std::uint64_t kills_here = 0;
  bool forced_end = false;
  static std::atomic<std::uint64_t> next_number{1};
  {
    ProcessPoolExecutor pool{entry, options};
    pool.logger().add_sink([&](const LogRecord& record) {
      if (record.origin == Origin::log) ++delivered[record.message];
    });
    const auto mutex = pool.make_mutex();
    const auto counter = pool.make_counter();
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> kills{0};
    std::thread killer{[&, seed = random()] {
      Random dice{seed};
      while (!stop) {
        std::this_thread::sleep_for(std::chrono::microseconds{dice() % (method == StartMethod::spawn ? 60'000 : 12'000)});
        if (dice() % 200 == 0) {
          for (const pid_t pid : fork_servers()) (void)::kill(pid, SIGKILL);
          continue;
        }
        try {
          if (dice() % 40 == 0) pool.resize(1 + dice() % 5);
          const auto pids = pool.worker_pids();
          if (pids.empty()) continue;
          const auto pid = static_cast<pid_t>(pids[dice() % pids.size()]);
          const auto how = dice() % 10;
          if (how == 0) (void)::kill(pid, SIGSTOP);
          if (::kill(pid, how == 1 ? SIGSEGV : how == 2 ? SIGTERM : SIGKILL) == 0) ++kills;
        } catch (const UsageError&) {
        }
      }
    }};
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds{200 + random() % 4000};
    while (std::chrono::steady_clock::now() < until) {
      const std::size_t first = all.size();
      const std::size_t burst = 1 + random() % 300;
      for (std::size_t i = 0; i < burst; ++i) {
        Submitted one;
        one.work.number = next_number++;
        one.work.amount = random() % 1'000'000;
        const auto dice = random() % 1000;
        one.work.kind = dice < 700 ? Kind::quick : dice < 850 ? Kind::slow : dice < 930 ? Kind::large : dice < 950 ? Kind::throws : dice < 990 ? Kind::locks : dice < 997 ? Kind::crash : Kind::deaf;
        std::vector<std::uint64_t> ballast(one_in(50) ? random() % 40'000 : random() % 4);
        for (std::uint64_t k = 0; k < ballast.size(); ++k) ballast[k] = one.work.number + k;
        TaskOptions task;
        if (one_in(6)) task.retries = one.retries = static_cast<int>(1 + random() % 2);
        if (one.work.kind == Kind::deaf || one_in(50)) {
          task.timeout = std::chrono::milliseconds{2 + random() % 30};
          one.limited = true;
        }
        if (one_in(30)) task.priority = static_cast<int>(random() % 5);
        one.future = pool.submit(task, run, file, one.work, ballast, mutex, counter);
        ++counts.tasks;
        all.push_back(std::move(one));
      }
      progress();
      for (std::size_t i = 0; i < burst / 20; ++i) {
        Submitted& one = all[first + random() % burst];
        if (one.killed || one.cancelled_early) continue;
        if (one_in(2)) {
          one.cancelled_early = one.future.cancel();
        } else {
          one.killed = one.future.cancel(Running::kill);
        }
      }
      for (std::size_t i = first; i < all.size() && !one_in(2000); ++i) {
        all[i].future.wait();
        progress();
      }
    }
    if (!clean_end) {
      forced_end = true;
      switch (random() % 3) {
        case 0: pool.shutdown({.wait = true, .cancel_pending = true}); break;
        case 1: pool.terminate_workers(); break;
        default: pool.kill_workers(); break;
      }
    } else if (one_in(2)) {
      pool.shutdown();  // while workers are still killed
    }
    progress();
    stop = true;
    killer.join();
    kills_here = kills;
  }
  progress();

  // --- judgement
  std::unordered_map<std::uint64_t, std::pair<int, int>> seen;  // times begun, times done
  {
    std::ifstream lines{file};
    char what = 0;
    for (std::uint64_t number = 0; lines >> what >> number;) ++(what == 'b' ? seen[number].first : seen[number].second);
  }
  std::uint64_t lost = 0, self_inflicted = 0, records = 0;
  for (Submitted& one : all) {
    const auto name = "task " + std::to_string(one.work.number) + " of kind " + std::to_string(static_cast<int>(one.work.kind));
    if (!one.future.done()) {
      promise_broken(name + " has not ended, and its pool has");
      continue;
    }
    const auto [begun, done] = seen[one.work.number];
    const int begins = delivered["begins " + std::to_string(one.work.number)];
    const int ends = delivered["ends " + std::to_string(one.work.number)];
    records += static_cast<std::uint64_t>(begins + ends);
    if (begun > one.retries + 1) promise_broken(name + " ran " + std::to_string(begun) + " times with " + std::to_string(one.retries) + " retries");
    if (begins > begun || ends > done + (begun - done)) promise_broken(name + " has more records than it made");
    if (one.cancelled_early && begun != 0) promise_broken(name + " ran, and its cancel had said that it had not begun");
    try {
      const auto answer = one.future.get();
      ++counts.right;
      if (answer.front() != answer_to(one.work) || answer.back() != answer_to(one.work)) promise_broken(name + " has a wrong answer");
      if (done < 1) promise_broken(name + " has an answer, and was never done");
      if (begins < 1 || ends < 1) promise_broken(name + " has an answer, and " + std::to_string(begins) + " and " + std::to_string(ends) + " records");
      if (one.retries == 0 && (begins != 1 || ends != 1)) promise_broken(name + " has its records " + std::to_string(begins) + " and " + std::to_string(ends) + " times");
      if (one.killed || one.cancelled_early) promise_broken(name + " has an answer, and was cancelled");
    } catch (const WorkerLost&) {
      ++lost;
      if (one.work.kind == Kind::crash) ++self_inflicted;
    } catch (const TaskTimeout&) {
      ++counts.timed_out;
      if (!one.limited) promise_broken(name + " timed out, and had no limit");
    } catch (const Cancelled&) {
      ++counts.cancelled;
      if (!one.killed && !one.cancelled_early && !forced_end) promise_broken(name + " is cancelled, and nobody did that");
    } catch (const std::out_of_range&) {
      ++counts.threw;
      if (one.work.kind != Kind::throws) promise_broken(name + " threw what it does not throw");
    } catch (const BrokenProcessPool& error) {
      ++counts.broken;
      if (!forced_end) promise_broken(name + " failed with its pool: " + error.what());
    } catch (const std::exception& error) {
      promise_broken(name + " failed otherwise: " + error.what());
    }
  }
  // With retries one kill costs an attempt, no more than one task in the end.
  if (!forced_end && lost - self_inflicted > kills_here) {
    promise_broken(std::to_string(lost - self_inflicted) + " tasks were lost to " + std::to_string(kills_here) + " kills");
  }
  counts.lost += lost;
  counts.kills += kills_here;
  counts.records += records;
  ++counts.lives;
  if (broken_promises == 0) std::filesystem::remove(file);
}

std::string resident() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS")) return line.substr(6);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Entry entry{argc, argv};
  std::map<std::string, std::string> given{{"seconds", "20"}, {"seed", std::to_string(std::random_device{}())}, {"start-method", "all"}, {"patience", "120"}};
  for (int i = 1; i + 1 < argc; i += 2) given[std::string{argv[i]}.substr(2)] = argv[i + 1];
  const auto seconds = std::stol(given["seconds"]);
  const auto seed = std::stoull(given["seed"]);
  const std::chrono::seconds patience{std::stol(given["patience"])};  // so long without progress is a hang
  std::vector<StartMethod> methods{StartMethod::fork, StartMethod::spawn, StartMethod::forkserver};
  if (given["start-method"] != "all") methods = {parse_start_method(given["start-method"])};
  std::printf("seed %llu, %ld s\n", static_cast<unsigned long long>(seed), seconds);
  std::fflush(stdout);

  std::string folder = std::filesystem::temp_directory_path() / "kindred-chaos-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 2;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{seconds};
  progress();
  std::atomic<bool> over{false};
  std::thread watchdog{[&] {
    while (!over) {
      std::this_thread::sleep_for(1s);
      const std::chrono::steady_clock::duration still{std::chrono::steady_clock::now().time_since_epoch().count() - last_progress};
      if (still < patience) continue;
      std::fprintf(stderr, "BROKEN: nothing ended for %s s: a hang in pid %d.\n", given["patience"].c_str(), static_cast<int>(::getpid()));
      std::system(("for t in /proc/" + std::to_string(::getpid()) + "/task/*; do cat $t/comm $t/wchan; echo; done >&2; command -v gdb >/dev/null && gdb -p " +
                   std::to_string(::getpid()) + " -batch -ex 'thread apply all bt 12' >&2 2>/dev/null").c_str());
      std::abort();
    }
  }};
  std::size_t descriptors = 0;
  for (std::uint64_t round = 0; std::chrono::steady_clock::now() < end && broken_promises == 0; ++round) {
    std::vector<std::thread> lives;
    for (unsigned side = 0; side < 2; ++side) {
      lives.emplace_back([&, side] {
        Random random{seed + round * 2 + side};
        live(entry, methods[(round + side) % methods.size()], random, folder);
      });
    }
    for (auto& life : lives) life.join();
    for (int tries = 0; below_this_process() != 0 && tries < 2000; ++tries) std::this_thread::sleep_for(1ms);
    if (below_this_process() != 0) promise_broken(std::to_string(below_this_process()) + " processes are left behind");
    if (round == 1) descriptors = open_descriptors();
    if (round > 1 && open_descriptors() > descriptors) promise_broken(std::to_string(open_descriptors()) + " descriptors are open, and were " + std::to_string(descriptors));
    if (round % 50 == 0) {
      std::printf("%lu lives, %lu tasks, %lu kills, %lu lost, resident %s\n", counts.lives.load(), counts.tasks.load(), counts.kills.load(),
                  counts.lost.load(), resident().c_str());
      std::fflush(stdout);
    }
  }
  over = true;
  watchdog.join();
  if (broken_promises == 0) std::filesystem::remove_all(folder);
  std::printf("seed %llu: %lu lives of pools, %lu tasks: %lu right, %lu lost, %lu over their limit, %lu cancelled, %lu threw, %lu ended with their pool; "
              "%lu kills from outside; %lu records compared; %lu promises broken; resident %s\n",
              static_cast<unsigned long long>(seed), counts.lives.load(), counts.tasks.load(), counts.right.load(), counts.lost.load(),
              counts.timed_out.load(), counts.cancelled.load(), counts.threw.load(), counts.broken.load(), counts.kills.load(), counts.records.load(),
              broken_promises.load(), resident().c_str());
  if (broken_promises == 0) {
    std::printf("scorecard: row 1: %lu kills of chaos, 0 hangs, every future of %lu ended once\n", counts.kills.load(), counts.tasks.load());
    std::printf("scorecard: row 2: %lu of %lu tasks lost to %lu kills, no answer wrong\n", counts.lost.load(), counts.tasks.load(), counts.kills.load());
    std::printf("scorecard: row 4: %lu records compared, none missing, none twice\n", counts.records.load());
    std::printf("scorecard: row 9: %lu lives of pools, no process and no descriptor left\n", counts.lives.load());
  }
  return broken_promises == 0 ? 0 : 1;
}
