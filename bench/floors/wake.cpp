// The machine's limit for a round trip after 1 to 3 ms of silence, for each way of waiting:
//   --how futex|eventfd   both ends sleep in the kernel
//   --how pause|yield     both ends spin all the time, which no pool can afford, but it says what the
//                         scheduler costs
//   --silent 0            without the silence: one round trip after another
//   --busy MICROSECONDS   the way back alone, from one that has worked for that time while the other slept
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "floors/shared_block.hpp"
#include "floors/spsc_ring.hpp"
#include "support/bench.hpp"

namespace {

struct Words {
  alignas(128) std::atomic<std::uint32_t> there{0};
  alignas(128) std::atomic<std::uint32_t> back{0};
  double sent = 0;  // when the way back began
};

class End {
 public:
  explicit End(const std::string& how)
      : futex_{how == "futex"},
        eventfd_{how == "eventfd"},
        spin_{how == "pause" ? bench::Wait::pause : bench::Wait::yield} {
    if (eventfd_) {
      for (int& fd : bells_) fd = eventfd(0, 0);
    }
  }
  void send(std::atomic<std::uint32_t>& word, std::uint32_t value, int bell) const {
    word.store(value, std::memory_order_release);
    if (futex_) syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    if (eventfd_) eventfd_write(bells_[bell], 1);
  }
  void wait(std::atomic<std::uint32_t>& word, std::uint32_t value, int bell) const {
    for (;;) {
      const auto seen = word.load(std::memory_order_acquire);
      if (seen == value) return;
      if (futex_) {
        syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
      } else if (eventfd_) {
        eventfd_t rings = 0;
        eventfd_read(bells_[bell], &rings);
      } else {
        bench::step(spin_);
      }
    }
  }

 private:
  bool futex_;
  bool eventfd_;
  bench::Wait spin_;
  int bells_[2] = {-1, -1};
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 200);
  const std::chrono::microseconds busy{options.number("busy", 0)};
  const bool silent = options.number("silent", 1) != 0;
  const End end{options.text("how", "futex")};
  bench::SharedBlock<Words> words;
  const auto all = static_cast<std::uint32_t>(count);
  bench::Child echo{[&] {
    for (std::uint32_t round = 1; round <= all; ++round) {
      end.wait(words->there, round, 0);
      const double until = bench::now_ns() + 1e3 * static_cast<double>(busy.count());
      while ((words->sent = bench::now_ns()) < until) {}
      end.send(words->back, round, 1);
    }
  }};
  bench::Samples samples{count};
  for (std::uint32_t round = 1; round <= all; ++round) {
    if (busy.count() == 0 && silent) std::this_thread::sleep_for(bench::silence(round));
    const double begin = bench::now_ns();
    end.send(words->there, round, 0);
    end.wait(words->back, round, 1);
    samples.add(bench::now_ns() - (busy.count() == 0 ? begin : words->sent));
  }
  samples.report("us", 1e-3);
}
