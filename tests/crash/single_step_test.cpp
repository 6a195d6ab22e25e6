// A worker is taken through its work one instruction at a time (ptrace), from where it wakes for a call to
// where it sleeps again: wake, claim, log commit, result commit, ring, wait. At each it is once stopped,
// while the parent does its turn, and then killed. Rows 5 and 6. The long run takes each instruction, in
// stretches from one injection point to the next, so that none is far from where the stepping begins. The
// short run takes every 499th from the claim on. KINDRED_TEST_STRIDE=N takes every Nth in either.
// ctest: TIMEOUT 7200 COST 400
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/log_area.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

#if !defined(KINDRED_INJECTION)
TEST_CASE("a worker is killed at every instruction (rows 5, 6)") {
  KINDRED_SKIP("this build has no injection points, which mark where to begin");
}
#else

namespace {

using kindred::internal::CallHeader;
using kindred::internal::InjectedAction;
using kindred::internal::InjectionControl;
using kindred::internal::LaneLines;
using kindred::internal::LogAreaShape;
using kindred::internal::SegmentHeader;
using std::chrono::steady_clock;

std::int64_t triple(std::int64_t x) {
  log_info("step {}", x);
  return 3 * x;
}

// What the dead worker's segment said at the instant of its death.
struct LastState {
  std::uint32_t call = 0;  ///< state of the call
  bool result_committed = false;
  bool record_committed = false;
};

// A worker's segment, read from outside.
class SegmentOf {
 public:
  explicit SegmentOf(pid_t pid) : pid_{pid} {
    std::ifstream maps{"/proc/" + std::to_string(pid) + "/maps"};
    for (std::string line; std::getline(maps, line);) {
      if (contains(line, "kindred-segment")) segment_ = std::stoull(line, nullptr, 16);
    }
  }
  /// From here on `state` counts.
  void begin() {
    begin_ = header();
    lane_ = lane();
  }
  [[nodiscard]] LastState state() const {
    LastState last;
    const Words now = header();
    last.result_committed = now.results_published != begin_.results_published;
    // The call is the one that the worker had not consumed at the beginning.
    read(segment_ + kindred::internal::Segment::header_bytes + begin_.calls_consumed % begin_.call_bytes +
             offsetof(CallHeader, state),
         last.call);
    const auto word = lane();
    last.record_committed = word != lane_ && (word & 1U) == 0;
    return last;
  }
  [[nodiscard]] bool sleeps() const {
    std::uint32_t word = 0;
    read(segment_ + offsetof(SegmentHeader, sleeps), word);
    return word != 0;
  }

 private:
  struct Words {
    std::uint64_t call_bytes = 0, log_offset = 0, calls_consumed = 0, results_published = 0;
  };
  template <class T>
  void read(std::uint64_t from, T& to) const {
    const iovec here{&to, sizeof to};
    const iovec there{reinterpret_cast<void*>(from), sizeof to};
    REQUIRE(::process_vm_readv(pid_, &here, 1, &there, 1, 0) == static_cast<ssize_t>(sizeof to));
  }
  [[nodiscard]] Words header() const {
    Words words;
    read(segment_ + offsetof(SegmentHeader, call_bytes), words.call_bytes);
    read(segment_ + offsetof(SegmentHeader, log_offset), words.log_offset);
    read(segment_ + offsetof(SegmentHeader, calls) + offsetof(kindred::internal::RingCursors<>, consumed),
         words.calls_consumed);
    read(segment_ + offsetof(SegmentHeader, results) + offsetof(kindred::internal::RingCursors<>, published),
         words.results_published);
    return words;
  }
  [[nodiscard]] std::uint64_t lane() const {  // the first lane is the main thread's
    std::uint64_t word = 0;
    read(segment_ + begin_.log_offset + LogAreaShape::lines_offset + offsetof(LaneLines<>, published), word);
    return word;
  }

  pid_t pid_;
  std::uint64_t segment_ = 0;
  Words begin_;
  std::uint64_t lane_ = 0;
};

char state_of(pid_t pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  const auto bracket = text.rfind(')');
  return bracket == std::string::npos || bracket + 2 >= text.size() ? '\0' : text[bracket + 2];
}

// Interrupts this thread's system calls every 50 ms while it lives.
class Metronome {
 public:
  Metronome() {
    struct sigaction nothing{};
    nothing.sa_handler = [](int) {};
    REQUIRE(::sigaction(SIGUSR2, &nothing, &before_) == 0);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR2;
    event._sigev_un._tid = ::gettid();
    REQUIRE(::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
    const itimerspec period{.it_interval = {.tv_sec = 0, .tv_nsec = 50'000'000},
                            .it_value = {.tv_sec = 0, .tv_nsec = 50'000'000}};
    REQUIRE(::timer_settime(timer_, 0, &period, nullptr) == 0);
  }
  Metronome(const Metronome&) = delete;
  Metronome& operator=(const Metronome&) = delete;
  ~Metronome() {
    ::timer_delete(timer_);
    ::sigaction(SIGUSR2, &before_, nullptr);
  }

 private:
  timer_t timer_{};
  struct sigaction before_{};
};

class SteppedWorker {
 public:
  explicit SteppedWorker(pid_t pid) : pid_{pid} {
    // On one core the two take turns without waking another.
    REQUIRE(::sched_getaffinity(0, sizeof mine_, &mine_) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    (void)::sched_setaffinity(pid_, sizeof one, &one);
    (void)::sched_setaffinity(0, sizeof one, &one);
  }
  SteppedWorker(const SteppedWorker&) = delete;
  SteppedWorker& operator=(const SteppedWorker&) = delete;
  ~SteppedWorker() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (seized_ && ::waitpid(pid_, &status, __WALL) < 0 &&
           errno == EINTR) {  // a tracee's death is its tracer's first
    }
    (void)::sched_setaffinity(0, sizeof mine_, &mine_);
  }
  [[nodiscard]] bool seize() {
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, nullptr) != 0) return false;
    seized_ = true;
    return ::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) == 0 && stopped(100);
  }
  /// False: it sleeps in a system call, or has ended.
  [[nodiscard]] bool step() { return ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0 && stopped(3); }

 private:
  // False where it was asleep at so many beats in a row: one that only waits for the CPU is not asleep.
  bool stopped(int beats) const {
    for (int asleep = 0; asleep < beats;) {
      int status = 0;
      const pid_t got = ::waitpid(pid_, &status, __WALL);
      if (got == pid_) return WIFSTOPPED(status);
      if (errno != EINTR) return false;
      asleep = state_of(pid_) == 'S' ? asleep + 1 : 0;
    }
    return false;
  }

  pid_t pid_;
  bool seized_ = false;
  cpu_set_t mine_{};
  Metronome metronome_;
};

InjectionControl& control() { return *kindred::internal::injection_control; }

void arm_stop_at(const char* point) {
  control().armed = 0;
  std::string{point}.copy(control().name, InjectionControl::name_bytes - 1);
  control().name[std::string_view{point}.size()] = '\0';
  control().action = InjectedAction::stop;
  control().hit = 1;
  control().hits = 0;
  control().armed.store(1, std::memory_order_release);
}

/// Returns whom it happened to, once it stands still.
pid_t stopped_at_point(const char* point, std::uint32_t fired) {
  while (control().hits == 0)
    kindred::internal::futex_wait(control().fired, fired, steady_clock::now() + 1ms);
  while (control().fired == fired) std::this_thread::yield();
  const auto pid = static_cast<pid_t>(control().pid.load());
  INFO(std::string{point});
  for (char state = 'R'; state != 'T'; state = state_of(pid)) {
    REQUIRE(state != '\0');
    REQUIRE_FALSE(is_ended(state));
    std::this_thread::yield();
  }
  return pid;
}

// In the order in which a worker comes by them. A stretch reaches to the next point.
constexpr const char* path[] = {"worker.sleep.woken",
                                "worker.call.before_claim",
                                "worker.call.claimed",
                                "worker.task.entered",
                                "log.site.unknown",
                                "log.site.before_commit",
                                "log.site.committed",
                                "log.lane.announcing",
                                "log.entered",
                                "log.before_commit",
                                "log.committed",
                                "worker.result.before_done",
                                "worker.result.before_publish",
                                "worker.result.published",
                                "worker.result.rung",
                                "worker.call.before_release",
                                "worker.sleep.before_saying",
                                "worker.sleep.said",
                                "worker.sleep.before_futex"};

struct Walk {
  long runs = 0, instructions = 0, lost = 0, wrong = 0, delivered_after_commit = 0;
  std::chrono::nanoseconds longest_turn{0};
};

// One pool whose worker dies again and again, `stride` instructions later each time.
class Walker {
 public:
  Walker(StartMethod method, Walk& walk)
      : walk_{walk},
        pool_{entry(),
              {.start_method = method,
               .max_workers = 1,
               .restart_limit = {.count = 1'000'000, .period = 1s},
               .spin = false}} {
    pool_.logger().add_sink([this](const LogRecord& record) {
      const std::scoped_lock lock{mutex_};
      if (record.origin == Origin::log) ++records_[record.message];
    });
  }

  enum class Ended { there, elsewhere, asleep, not_allowed };
  /// A fresh worker is stopped at `point`, goes `most` instructions on, and is killed. `elsewhere`: it came
  /// by another point on the way.
  Ended go(const char* point, long most) {
    const std::int64_t number = ++number_;
    const bool from_sleep = std::string_view{point} == "worker.sleep.woken";
    if (from_sleep) {
      control().armed = 0;
      REQUIRE(pool_.submit(triple, std::int64_t{-2}).get() == -6);
      const auto pid = static_cast<pid_t>(pool_.worker_pids().at(0));
      const SegmentOf segment{pid};
      while (!segment.sleeps() || state_of(pid) != 'S') std::this_thread::yield();
    }
    auto fired = control().fired.load();
    arm_stop_at(from_sleep ? point : "worker.call.before_claim");
    auto future = pool_.submit(triple, number);
    pid_t pid = stopped_at_point(point, fired);
    SegmentOf segment{pid};
    segment.begin();
    if (!from_sleep && std::string_view{point} != "worker.call.before_claim") {
      fired = control().fired;
      arm_stop_at(point);
      ::kill(pid, SIGCONT);
      pid = stopped_at_point(point, fired);
    }
    LastState last;
    long step = 0;
    bool awake = true;
    bool elsewhere = false;
    {
      SteppedWorker worker{pid};
      if (!worker.seize()) return Ended::not_allowed;
      control().passed = 0;
      control().armed = InjectionControl::quiet;
      while (step < most && (awake = worker.step())) ++step;
      elsewhere = control().passed != 0;
      last = segment.state();
      // Row 6: it stands still here for ever, and the parent does all that it may do.
      const auto turn = steady_clock::now();
      (void)pool_.stats();
      (void)future.done();
      auto other = pool_.submit(triple, std::int64_t{-1});
      (void)other.cancel();
      (void)future.wait_for(0s);
      walk_.longest_turn = std::max<std::chrono::nanoseconds>(walk_.longest_turn, steady_clock::now() - turn);
      // A parent that waits for the worker would go on only after it has killed it.
      if (awake) CHECK(state_of(pid) == 't');
    }
    ++walk_.runs;
    INFO("killed ", step, " instructions behind ", std::string{point}, ": call state ", last.call,
         ", record ", last.record_committed, ", result ", last.result_committed);
    bool value = false;
    try {
      value = future.get() == 3 * number;
      if (!value) ++walk_.wrong;
    } catch (const WorkerLost&) {
      ++walk_.lost;
    }
    pool_.logger().flush();
    const std::scoped_lock lock{mutex_};
    const int seen = records_["step " + std::to_string(number)];
    const bool begun = last.call != kindred::internal::call_state::queued;
    const bool as_it_should = value == (!begun || last.result_committed) &&
                              (value ? seen == 1 : seen == (last.record_committed ? 1 : 0));
    if (last.result_committed && value) ++walk_.delivered_after_commit;
    CHECK(as_it_should);
    walk_.wrong += as_it_should ? 0 : 1;
    return !awake ? Ended::asleep : elsewhere ? Ended::elsewhere : Ended::there;
  }

 private:
  Walk& walk_;
  std::mutex mutex_;
  std::map<std::string, int> records_;
  std::int64_t number_ = 0;
  ProcessPoolExecutor pool_;
};

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a worker that is stopped or killed at any instruction of its work keeps every promise (rows 5, 6)") {
  const Deadline deadline{long_run() ? 2300s : 240s};
  TemporaryFolder folder;
  const std::string file = folder / "injection";
  write_file(file, std::string(sizeof(InjectionControl), '\0'));
  REQUIRE(::setenv("KINDRED_INJECTION", file.c_str(), 1) == 0);  // what is executed maps it, too
  kindred::internal::injection_control = kindred::internal::map_injection(file.c_str());
  REQUIRE(kindred::internal::injection_control != nullptr);
  control().parent_pid = static_cast<std::uint32_t>(::getpid());
  ResourceAudit audit;

  const char* const given = std::getenv("KINDRED_TEST_STRIDE");
  // The time is that of all steps before each place: it grows with the square of the instructions, and a
  // sanitizer adds many.
  const long stride = given != nullptr ? std::max(1L, std::stol(given))
                      : long_run()     ? 1
                                       : 499L * slowness() * slowness();
  const auto begun = steady_clock::now();
  Walk walk;
  {
    Walker walker{method, walk};
    const bool whole = stride < 100;
    for (const char* const point : path) {
      if (!whole && std::string_view{point} != "worker.call.before_claim") continue;
      // Two runs are never quite alike: a stretch ends where four in a row have gone beyond it.
      const auto before = walk.instructions;
      int beyond = 0;
      long at = 0;
      for (; beyond < 4 && walk.wrong <= 20; at += stride) {
        const auto ended = walker.go(point, at);
        if (ended == Walker::Ended::not_allowed) {
          kindred::internal::injection_control = nullptr;
          ::unsetenv("KINDRED_INJECTION");
          KINDRED_SKIP("this process may not trace its own descendants");
        }
        if (ended == Walker::Ended::asleep) break;
        beyond = whole && ended == Walker::Ended::elsewhere ? beyond + 1 : 0;
      }
      walk.instructions += at - beyond * stride;
      if (std::getenv("KINDRED_TEST_VERBOSE") != nullptr)
        std::printf("%s: %ld instructions\n", point, walk.instructions - before);
    }
  }
  kindred::internal::injection_control = nullptr;
  ::unsetenv("KINDRED_INJECTION");
  const auto seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  CHECK(walk.wrong == 0);
  CHECK(walk.instructions > 500);
  CHECK(walk.lost > 0);
  CHECK((walk.delivered_after_commit > 0 || stride > 100));
  scorecard(5, fmt::format("{} kills at {} of {} instructions, in {:.0f} s: {} tasks lost, {} wrong",
                           walk.runs, stride == 1 ? "each" : fmt::format("every {}th", stride),
                           walk.instructions, seconds, walk.lost, walk.wrong));
  scorecard(6, fmt::format("stopped at {} instructions, the parent's turn took {:.2f} ms at most", walk.runs,
                           static_cast<double>(walk.longest_turn.count()) / 1e6));
}
#endif
