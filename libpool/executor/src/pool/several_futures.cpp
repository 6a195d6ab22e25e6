#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "kindred/future.hpp"
#include "pool/pool_core.hpp"

// Threads that wait for several futures, also of several pools.
namespace kindred::internal {
namespace {

// Wakes the waiter, which waits in `pool`.
class Wake {
 public:
  Wake(PoolCore& pool, Waiter& waiter) noexcept : pool_{pool}, waiter_{waiter} {}
  void with_lock(Locked locked) const noexcept { pool_.waiters().wake(locked, waiter_); }
  void without_lock() const noexcept { pool_.wake_from_outside(waiter_); }

 private:
  PoolCore& pool_;
  Waiter& waiter_;
};

// Calls `note(wake)` when the state is finished: while the lock of `pool` is held where the state is its,
// else on the other pool's callback thread. `note` returns whether the waiter is to be woken.
void watch(FutureState& state, PoolCore& pool, Waiter& waiter, std::function<bool()> note) {
  const Wake wake{pool, waiter};
  if (pool_of(state) == &pool) {
    state.on_finished_inline([note = std::move(note), wake](Locked locked) {
      if (note()) wake.with_lock(locked);
    });
  } else {
    state.retain();  // the callback runs after the state has ended, when the waiting thread may have dropped
                     // it
    StateHandle keep{&state};
    state.on_finished([note = std::move(note), keep = std::move(keep), wake] {
      if (note()) wake.without_lock();
    });
  }
}

std::shared_ptr<PoolCore> keep(PoolCore* pool) {
  pool->retain();
  return {pool, [](PoolCore* kept) { kept->release(); }};
}

}  // namespace

void wait_for_states(const std::vector<FutureState*>& states, ReturnWhen when, Deadline deadline) {
  if (when == ReturnWhen::all_completed) {
    for (FutureState* const state : states) {
      if (!state->wait(deadline)) return;
    }
    return;
  }
  struct Shared {
    std::mutex mutex;
    std::size_t left = 0;
    bool satisfied = false;
    Waiter waiter;
  };
  const auto satisfies = [when](const FutureState& state) {
    return state.finished() && (when == ReturnWhen::first_completed || state.outcome() == Outcome::failure);
  };
  PoolCore* pool = nullptr;
  for (FutureState* const state : states) {
    if (satisfies(*state)) return;
    if (!state->finished()) pool = pool_of(*state);
  }
  if (pool == nullptr) return;
  auto shared = std::make_shared<Shared>();
  shared->left = states.size();
  // The note may come after this call has returned: what it touches lives in `shared`, and the pool in the
  // state that it is a note of.
  for (FutureState* const state : states) {
    watch(*state, *pool, shared->waiter, [shared, state, satisfies, kept = keep(pool)] {
      const std::scoped_lock lock{shared->mutex};
      --shared->left;
      if (satisfies(*state) || shared->left == 0) shared->satisfied = true;
      return shared->satisfied;
    });
  }
  const auto ready = [&shared] {
    const std::scoped_lock lock{shared->mutex};
    return shared->satisfied;
  };
  pool->require_here("future");
  (void)pool->waiters().wait_until(ready, shared->waiter, deadline);
}

struct CompletionQueue::Shared {
  std::mutex mutex;
  std::deque<std::size_t> finished;
  Waiter waiter;
  std::shared_ptr<PoolCore> pool;
};

CompletionQueue::CompletionQueue(const std::vector<FutureState*>& states)
    : shared_{std::make_shared<Shared>()}, left_{states.size()} {
  if (states.empty()) return;
  PoolCore* pool = pool_of(*states.front());
  for (FutureState* const state : states) {
    if (!state->finished()) pool = pool_of(*state);
  }
  shared_->pool = keep(pool);
  for (std::size_t i = 0; i < states.size(); ++i) {
    watch(*states[i], *pool, shared_->waiter, [shared = shared_, i] {
      const std::scoped_lock lock{shared->mutex};
      shared->finished.push_back(i);
      return true;
    });
  }
}

CompletionQueue::~CompletionQueue() = default;

std::optional<std::size_t> CompletionQueue::next(Deadline deadline) {
  const auto take = [&]() -> std::optional<std::size_t> {
    const std::scoped_lock lock{shared_->mutex};
    if (shared_->finished.empty()) return std::nullopt;
    const std::size_t first = shared_->finished.front();
    shared_->finished.pop_front();
    --left_;
    return first;
  };
  if (const auto first = take()) return first;
  shared_->pool->require_here("future");
  const auto any = [&] {
    const std::scoped_lock lock{shared_->mutex};
    return !shared_->finished.empty();
  };
  (void)shared_->pool->waiters().wait_until(any, shared_->waiter, deadline);
  return take();
}

}  // namespace kindred::internal
