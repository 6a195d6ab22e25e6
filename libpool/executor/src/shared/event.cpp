#include "kindred/event.hpp"

#include <limits>

#include "shared/shared_object.hpp"
#include "shared/sleep.hpp"

namespace kindred {

using namespace internal;

namespace {

//     31 .. 1                                   0
//    +----------------------------------------+-----+
//    | how often it was set                   | set |
//    +----------------------------------------+-----+
constexpr std::uint32_t is_set_bit = 1;
constexpr std::uint32_t one_setting = 2;

std::atomic<std::uint32_t>& word_of(SharedObject& object) noexcept { return object.memory().words[0]; }

}  // namespace

void Event::set() const {
  auto& word = word_of(use());
  std::uint32_t seen = word.load(std::memory_order_relaxed);
  std::uint32_t wanted = 0;
  do {
    // An event that is set stays as it is, but is written all the same: a process that sees it from now on
    // also sees what we wrote before.
    wanted = (seen & is_set_bit) != 0 ? seen : (seen | is_set_bit) + one_setting;
    // Order: release, pairs with the acquire in `wait_before` and `is_set`.
  } while (!word.compare_exchange_weak(seen, wanted, std::memory_order_release, std::memory_order_relaxed));
  // Crash: it is set, and the threads that sleep do not know; the parent wakes them when it hears of the
  // death.
  if (wanted != seen) futex_wake(word, std::numeric_limits<int>::max());
}

void Event::clear() const { word_of(use()).fetch_and(~is_set_bit, std::memory_order_acq_rel); }

bool Event::is_set() const { return (word_of(use()).load(std::memory_order_acquire) & is_set_bit) != 0; }

void Event::wait() const { wait_before({}); }

bool Event::wait_before(Deadline deadline) const {
  SharedObject& object = use();
  auto& word = word_of(object);
  // Order: acquire, pairs with the release in `set`: what was written before it is seen after the wait.
  const std::uint32_t first = word.load(std::memory_order_acquire);
  std::uint32_t seen = first;
  for (bool in_time = true;;) {
    if ((seen & is_set_bit) != 0) return true;
    if (seen !=
        first) {  // set and cleared again while we waited; or the pool ended, which also changes the word
      object.require_open();
      if ((seen & ~is_set_bit) != (first & ~is_set_bit)) return true;
    }
    if (!in_time) return false;
    in_time = spin_then_sleep(word, seen, deadline);
    object.require_open();
    seen = word.load(std::memory_order_acquire);
  }
}

}  // namespace kindred
