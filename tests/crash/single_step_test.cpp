// A worker is taken through its work one instruction at a time (ptrace), from before it claims a call to where it sleeps again: log commit,
// result commit, claim, ring, wait. At each it is once stopped, while the parent does its turn, and then killed. Rows 5 and 6.
// The short run takes every 499th instruction.
// ctest: TIMEOUT 7200
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kindred/internal/injection.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/log_area.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/wakeup.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

#if !defined(KINDRED_INJECTION)
TEST_CASE("a worker is killed at every instruction (rows 5, 6)") { KINDRED_SKIP("this build has no injection points, which mark where to begin"); }
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
  std::uint32_t call = 0;           ///< state of the call
  bool result_committed = false;
  bool record_committed = false;
};

class SteppedWorker {
 public:
  explicit SteppedWorker(pid_t pid) : pid_{pid} {
    std::ifstream maps{"/proc/" + std::to_string(pid) + "/maps"};
    for (std::string line; std::getline(maps, line);) {
      if (contains(line, "kindred-segment")) segment_ = std::stoull(line, nullptr, 16);
    }
  }
  SteppedWorker(const SteppedWorker&) = delete;
  SteppedWorker& operator=(const SteppedWorker&) = delete;
  ~SteppedWorker() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    if (seized_) ::waitpid(pid_, &status, __WALL);  // a tracee's death is its tracer's first
  }
  [[nodiscard]] bool seize() {
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, nullptr) != 0 || ::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0) return false;
    seized_ = true;
    if (!stopped(5s)) return false;
    begin_ = header();
    lane_ = lane();
    return true;
  }
  /// False: it sleeps in a system call.
  [[nodiscard]] bool step() { return ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0 && stopped(100ms); }
  [[nodiscard]] LastState state() const {
    LastState last;
    const Words now = header();
    last.result_committed = now.results_published != begin_.results_published;
    // The call is the one that the worker had not consumed at the beginning.
    read(segment_ + kindred::internal::Segment::header_bytes + begin_.calls_consumed % begin_.call_bytes + offsetof(CallHeader, state), last.call);
    const auto word = lane();
    last.record_committed = word != lane_ && (word & 1U) == 0;
    return last;
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
    read(segment_ + offsetof(SegmentHeader, calls) + offsetof(kindred::internal::RingCursors<>, consumed), words.calls_consumed);
    read(segment_ + offsetof(SegmentHeader, results) + offsetof(kindred::internal::RingCursors<>, published), words.results_published);
    return words;
  }
  [[nodiscard]] std::uint64_t lane() const {  // the first lane is the main thread's
    std::uint64_t word = 0;
    read(segment_ + begin_.log_offset + LogAreaShape::control_bytes + offsetof(LaneLines<>, published), word);
    return word;
  }
  bool stopped(std::chrono::milliseconds limit) {
    const auto until = steady_clock::now() + limit;
    for (unsigned round = 0;; ++round) {
      int status = 0;
      const pid_t got = ::waitpid(pid_, &status, __WALL | WNOHANG);
      if (got == pid_) return WIFSTOPPED(status);
      if (got < 0 || (round % 64 == 0 && steady_clock::now() > until)) return false;
      std::this_thread::yield();
    }
  }

  pid_t pid_;
  std::uint64_t segment_ = 0;
  bool seized_ = false;
  Words begin_;
  std::uint64_t lane_ = 0;
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

}  // namespace

TEST_CASE("a worker that is stopped or killed at any instruction of its work keeps every promise (rows 5, 6)") {
  const Deadline deadline{long_run() ? 7000s : 240s};
  TemporaryFolder folder;
  const std::string path = folder / "injection";
  write_file(path, std::string(sizeof(InjectionControl), '\0'));
  kindred::internal::injection_control = kindred::internal::map_injection(path.c_str());
  REQUIRE(kindred::internal::injection_control != nullptr);
  control().parent_pid = static_cast<std::uint32_t>(::getpid());
  ResourceAudit audit;

  const long stride = long_run() ? 1 : 499;
  long steps_to_sleep = -1;  // unknown yet
  long runs = 0, lost = 0, wrong = 0, delivered_after_commit = 0;
  std::chrono::nanoseconds longest_turn{0};
  {
    std::mutex mutex;
    std::map<std::string, int> records;
    ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::fork, .max_workers = 1, .restart_limit = {.count = 1'000'000, .period = 1s}, .spin = false}};
    pool.logger().add_sink([&](const LogRecord& record) {
      const std::scoped_lock lock{mutex};
      if (record.origin == Origin::log) ++records[record.message];
    });
    for (long at = -1; at < 0 || at <= steps_to_sleep; at += at < 0 ? 1 : stride) {  // the first run only counts
      const std::int64_t number = at + 1;
      arm_stop_at("worker.call.before_claim");
      auto future = pool.submit(triple, number);
      const auto fired = control().fired.load();
      while (control().hits == 0) kindred::internal::futex_wait(control().fired, fired, steady_clock::now() + 1ms);
      while (control().pid == 0 || control().fired == 0) std::this_thread::yield();
      LastState last;
      bool reached = true;
      {
        SteppedWorker worker{static_cast<pid_t>(control().pid.load())};
        if (!worker.seize()) KINDRED_SKIP("this process may not trace its own descendants");
        control().armed = InjectionControl::quiet;
        long step = 0;
        while ((at < 0 || step < at) && (reached = worker.step())) ++step;
        if (at < 0) steps_to_sleep = step;
        last = worker.state();
        // Row 6: it stands still here for ever, and the parent does all that it may do.
        const auto turn = steady_clock::now();
        (void)pool.stats();
        (void)future.done();
        auto other = pool.submit(triple, std::int64_t{-1});
        (void)other.cancel();
        (void)future.wait_for(0s);
        longest_turn = std::max<std::chrono::nanoseconds>(longest_turn, steady_clock::now() - turn);
      }
      control().pid = 0;
      ++runs;
      INFO("killed after ", at, " instructions of ", steps_to_sleep, ": call state ", last.call, ", record ", last.record_committed, ", result ", last.result_committed);
      bool value = false;
      try {
        value = future.get() == 3 * number;
        if (!value) ++wrong;
      } catch (const WorkerLost&) {
        ++lost;
      }
      pool.logger().flush();
      const std::scoped_lock lock{mutex};
      const int seen = records["step " + std::to_string(number)];
      const bool begun = last.call != kindred::internal::call_state::queued;
      const bool as_it_should = value == (!begun || last.result_committed) && (value ? seen == 1 : seen == (last.record_committed ? 1 : 0));
      if (last.result_committed && value) ++delivered_after_commit;
      CHECK(as_it_should);
      wrong += as_it_should ? 0 : 1;
      if (wrong > 20) break;
    }
  }
  kindred::internal::injection_control = nullptr;
  CHECK(wrong == 0);
  CHECK(steps_to_sleep > 500);
  CHECK(lost > 0);
  CHECK((delivered_after_commit > 0 || !long_run()));
  CHECK(longest_turn < 2s);
  scorecard(5, fmt::format("killed at {} of {} instructions: {} tasks lost, {} wrong", runs, steps_to_sleep + 1, lost, wrong));
  scorecard(6, fmt::format("stopped at {} of {} instructions: a turn of the parent took {:.2f} ms at most", runs, steps_to_sleep + 1, static_cast<double>(longest_turn.count()) / 1e6));
}
#endif
