#include "kindred/semaphore.hpp"

#include <algorithm>

#include "kindred/error.hpp"
#include "shared/shared_object.hpp"
#include "shared/sleep.hpp"

namespace kindred {

using namespace internal;

namespace {

constexpr int permits_word = 0;

SemaphoreState read(SharedObject& object, Critical& critical) {
  const auto semaphore = critical.state().get<SemaphoreState>();
  if (semaphore.available < 0 || semaphore.available > Semaphore::max())
    object.throw_corrupt("its number of permits is out of range");
  return semaphore;
}

/// The account that a release by a process without permits is for; 0: none has any.
std::uint32_t largest_account(const SharedObject& object) noexcept {
  std::uint32_t found = 0;
  std::uint32_t most = 0;
  const std::uint32_t used = object.accounts_used();
  for (std::uint32_t i = 0; i < used; ++i) {
    const std::uint32_t held = object.account(i).held.load(std::memory_order_relaxed);
    if (i == object.my_account() || held <= most) continue;
    found = i;
    most = held;
  }
  return most == 0 ? object.my_account() : found;
}

}  // namespace

bool Semaphore::acquire_before(Deadline deadline) const {
  SharedObject& object = use();
  bool waiting = false;
  for (bool in_time = true;;) {
    std::uint32_t ticket = 0;
    {
      Critical critical{object, with_grace(deadline)};
      // Not even the lock can be taken: a process was stopped or killed while it held it. Where we are
      // registered we stay it, which costs others a system call now and then.
      if (!critical) return false;
      SemaphoreState semaphore = read(object, critical);
      if (semaphore.available > 0) {
        --semaphore.available;
        ++critical.account().held;
        critical.state().set(semaphore);
        if (waiting) critical.end_waiting(permits_word);
        // Crash: the permit is on our account or it is available, never both or neither.
        critical.commit();
        return true;
      }
      if (!in_time || is_past(deadline)) {
        if (waiting) {
          critical.end_waiting(permits_word);
          critical.commit();
        }
        return false;
      }
      if (!waiting) {
        critical.begin_waiting(permits_word);
        critical.commit();
        waiting = true;
      }
      ticket = critical.ticket(permits_word);
    }
    in_time = spin_then_sleep(object.memory().words[permits_word], ticket, deadline);
  }
}

void Semaphore::acquire() const { acquire_before({}); }
bool Semaphore::try_acquire() const { return acquire_before(std::chrono::steady_clock::now()); }

void Semaphore::release(std::ptrdiff_t permits) const {
  SharedObject& object = use();
  if (permits < 0 || permits > max()) {
    throw UsageError{"a Semaphore was to release " + std::to_string(permits) +
                     " permits. The number must be from 0 to " + std::to_string(max()) + "."};
  }
  // Crash: one turn is whole or not at all; a process that dies between two turns has released a part of what
  // it was to release.
  for (std::int64_t left = permits; left > 0;) {
    Critical critical{object};
    SemaphoreState semaphore = read(object, critical);
    if (left > max() - semaphore.available) {
      throw UsageError{"a Semaphore with " + std::to_string(semaphore.available) +
                       " permits available was to release " + std::to_string(left) +
                       " more. There can be at most " + std::to_string(max()) +
                       ": release as often as you acquire."};
    }
    std::int64_t turn = left;
    AccountEntry* account = &critical.account();
    if (account->held == 0) account = &critical.account_to_change(largest_account(object));
    if (account->held != 0) {
      turn = std::min<std::int64_t>(left, account->held);
      account->held -= static_cast<std::uint32_t>(turn);
    }
    semaphore.available += turn;
    left -= turn;
    critical.state().set(semaphore);
    critical.commit();
    critical.wake(permits_word,
                  static_cast<int>(std::min<std::int64_t>(turn, critical.state().waiting[permits_word])));
  }
}

void Semaphore::consume(std::ptrdiff_t permits) const {
  SharedObject& object = use();
  Critical critical{object};
  AccountEntry& mine = critical.account();
  mine.held -= static_cast<std::uint32_t>(std::clamp<std::int64_t>(permits, 0, mine.held));
  critical.commit();
}

std::ptrdiff_t Semaphore::available() const {
  SharedObject& object = use();
  Critical critical{object};
  return static_cast<std::ptrdiff_t>(read(object, critical).available);
}

bool Semaphore::abandoned() const {
  SharedObject& object = use();
  Critical critical{object};
  return critical.state().get<SemaphoreState>().given_back != 0;
}

void Semaphore::make_consistent() const {
  SharedObject& object = use();
  Critical critical{object};
  auto semaphore = critical.state().get<SemaphoreState>();
  semaphore.given_back = 0;
  critical.state().set(semaphore);
  critical.commit();
}

void internal::settle_semaphore(ObjectState& state, const AccountEntry& dead) noexcept {
  auto semaphore = state.get<SemaphoreState>();
  const std::int64_t available = std::clamp<std::int64_t>(semaphore.available, 0, Semaphore::max());
  const std::int64_t back = std::min<std::int64_t>(dead.held, Semaphore::max() - available);
  semaphore.available = available + back;
  semaphore.given_back += static_cast<std::uint64_t>(back);
  state.set(semaphore);
}

}  // namespace kindred
