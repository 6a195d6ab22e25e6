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

std::shared_ptr<PoolCore> keep(PoolCore* pool) {
  pool->retain();
  return {pool, [](PoolCore* kept) { kept->release(); }};
}

// What several futures note for one waiting thread, which waits in one pool: that of an open one of them. It
// may outlive the wait, by a note that runs on another pool's callback thread.
struct Watched {
  explicit Watched(PoolCore& its_pool) : pool{keep(&its_pool)} {}

  std::mutex mutex;
  std::vector<StateHandle> open;  // the futures whose note has not run yet; null: it has run
  Waiter waiter;
  const std::shared_ptr<PoolCore> pool;
};

// Calls `note(position, state)` of the watched once for each state that is finished: while the lock of its
// pool is held where the state is that pool's, else on the other pool's callback thread. `note` is called
// with the mutex of the watched, and returns whether the waiter is to be woken.
template <class W>
void watch(const std::shared_ptr<W>& watched, const std::vector<FutureState*>& states) {
  watched->open.reserve(states.size());
  for (FutureState* const state : states) {
    state->retain();
    watched->open.emplace_back(state);
  }
  const auto note = [watched](std::size_t position) {
    StateHandle finished;  // let go without the mutex
    const std::scoped_lock lock{watched->mutex};
    std::swap(finished, watched->open[position]);
    return finished && watched->note(position, *finished.get());
  };
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (pool_of(*states[i]) == watched->pool.get()) {
      states[i]->on_finished_inline(
          [note, i, &of = *watched](Locked locked) {
            if (note(i)) of.pool->waiters().wake(locked, of.waiter);
          },
          watched.get());
    } else {
      states[i]->on_finished(
          [note, i, &of = *watched] {
            if (note(i)) of.pool->wake_from_outside(of.waiter);
          },
          watched.get());
    }
  }
}

bool satisfies(const FutureState& state, ReturnWhen when) {
  return state.finished() && (when == ReturnWhen::first_completed || state.outcome() == Outcome::failure);
}

// For a thread that waits until one of `count` states satisfies it, or all are finished.
struct WatchedForOne : Watched {
  WatchedForOne(PoolCore& its_pool, ReturnWhen its_when, std::size_t count)
      : Watched{its_pool}, when{its_when}, left{count} {}
  bool note(std::size_t, const FutureState& state) {
    is_satisfied = --left == 0 || is_satisfied || satisfies(state, when);
    return is_satisfied;
  }
  const ReturnWhen when;
  std::size_t left;
  bool is_satisfied = false;
};

// The thread waits no more: the open states forget their notes.
void end_watch(Watched& watched) noexcept {
  for (StateHandle& slot : watched.open) {
    StateHandle state;
    {
      const std::scoped_lock lock{watched.mutex};
      std::swap(state, slot);
    }
    if (state) state->withdraw(&watched);
  }
}

class WatchEnd {
 public:
  explicit WatchEnd(Watched& watched) noexcept : watched_{watched} {}
  WatchEnd(const WatchEnd&) = delete;
  WatchEnd& operator=(const WatchEnd&) = delete;
  ~WatchEnd() { end_watch(watched_); }

 private:
  Watched& watched_;
};

}  // namespace

void wait_for_states(const std::vector<FutureState*>& states, ReturnWhen when, Deadline deadline) {
  if (when == ReturnWhen::all_completed) {
    for (FutureState* const state : states) {
      if (!state->wait(deadline)) return;
    }
    return;
  }
  PoolCore* pool = nullptr;
  for (FutureState* const state : states) {
    if (satisfies(*state, when)) return;
    if (!state->finished()) pool = pool_of(*state);
  }
  if (pool == nullptr) return;
  const auto watched = std::make_shared<WatchedForOne>(*pool, when, states.size());
  const WatchEnd end{*watched};
  watch(watched, states);
  const auto ready = [&watched] {
    const std::scoped_lock lock{watched->mutex};
    return watched->is_satisfied;
  };
  pool->require_here("future");
  (void)pool->waiters().wait_until(ready, watched->waiter, deadline);
}

struct CompletionQueue::Shared : Watched {
  using Watched::Watched;
  bool note(std::size_t position, const FutureState&) {
    finished.push_back(position);
    return true;
  }
  std::deque<std::size_t> finished;
};

CompletionQueue::CompletionQueue(const std::vector<FutureState*>& states) : left_{states.size()} {
  if (states.empty()) return;
  PoolCore* pool = pool_of(*states.front());
  for (FutureState* const state : states) {
    if (!state->finished()) pool = pool_of(*state);
  }
  shared_ = std::make_shared<Shared>(*pool);
  try {
    watch(shared_, states);
  } catch (...) {
    end_watch(*shared_);
    throw;
  }
}

CompletionQueue::~CompletionQueue() {
  if (shared_) end_watch(*shared_);
}

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
