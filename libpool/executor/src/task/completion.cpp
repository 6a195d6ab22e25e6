#include "task/completion.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/exception_codec.hpp"

namespace kindred::internal {
namespace {

class EncodedFailure final : public Failure {
 public:
  EncodedFailure(std::span<const std::byte> bytes, ContextId context, TaskFacts facts)
      : bytes_{bytes.begin(), bytes.end()}, context_{context}, facts_{std::move(facts)} {}
  [[nodiscard]] std::exception_ptr make() const override {
    Decoder decoder{context_, bytes_};
    return decode_exception(decoder, facts_);
  }

 private:
  std::vector<std::byte> bytes_;
  ContextId context_;
  TaskFacts facts_;
};

// Moves the notes of `owner` from one list to the other. Errors: `std::bad_alloc`, and nothing is moved.
template <class Note>
void move_notes(std::vector<Note>& from, const void* owner, std::vector<Note>& to) {
  const auto its = std::stable_partition(from.begin(), from.end(),
                                         [owner](const Note& note) { return note.owner != owner; });
  to.insert(to.end(), std::make_move_iterator(its), std::make_move_iterator(from.end()));
  from.erase(its, from.end());
}

}  // namespace

std::unique_ptr<Failure> make_encoded_failure(std::span<const std::byte> bytes, ContextId context,
                                              TaskFacts facts) {
  return std::make_unique<EncodedFailure>(bytes, context, std::move(facts));
}

void Completion::finish(Locked locked, TaskState& task, Outcome outcome, std::unique_ptr<Failure> failure) {
  KINDRED_ASSERT(!task.is_pending());
  KINDRED_ASSERT(outstanding_ != 0U);
  if (task.options) end_options(locked, task);
  if (outcome != Outcome::value) {
    if (!failure || !failure->keeps_call()) {
      task.drop_bytes();
      task.cargo.reset();
    }
    if (outcome == Outcome::failure && flight_recorder_) deferred_.release_flight_of(locked, task.id);
  }
  switch (outcome) {
    case Outcome::value: ++totals_.done; break;
    case Outcome::cancelled: ++totals_.cancelled; break;
    default: break;
  }
  KINDRED_INJECTION_POINT("parent.finish");
  --outstanding_;
  const bool forgotten = task.forgotten;
  if (forgotten) [[unlikely]]
    task.retain();
  end(locked, task, outcome, std::move(failure));
  if (forgotten) [[unlikely]]
    task.release();
}

void Completion::end(Locked locked, FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure) {
  KINDRED_ASSERT(!state.finished());
  std::unique_ptr<Continuations> continuations{std::exchange(state.continuations(locked), nullptr)};
  const bool has_sleepers = state.has_sleepers(locked);
  if (continuations) [[unlikely]]
    state.retain();
  state.conclude(locked, outcome, failure.release());
  if (continuations) [[unlikely]] {
    KINDRED_ASSERT(with_continuations_ != 0U);
    --with_continuations_;
    for (auto& note : continuations->in_line) note.action(locked);
    continuations->in_line.clear();
    if (!continuations->callbacks.empty()) {
      continuations->of_task = state.task_id() != 0 ? state.task_id() : task_of_running_callback();
      deferred_.run_callbacks_of(locked, std::move(continuations));
    }
    state.release();
  }
  // From here on the state may be gone: a thread that waits for it holds it.
  if (awaited_ == &state) events_.wake_leader(locked);
  if (has_sleepers) events_.wake_followers(locked, state);
  check_all_ended(locked);
}

Continuations& Completion::continuations_of(Locked locked, FutureState& state) {
  Continuations*& continuations = state.continuations(locked);
  if (continuations == nullptr) {
    continuations = new Continuations;
    ++with_continuations_;
  }
  return *continuations;
}

bool Completion::add_callback(Locked locked, FutureState& state, std::function<void()>& action,
                              const void* owner) {
  if (state.finished()) return false;
  callbacks_.start();
  continuations_of(locked, state).callbacks.push_back({std::move(action), owner});
  return true;
}

bool Completion::add_continuation(Locked locked, FutureState& state, std::function<void(Locked)>& action,
                                  const void* owner) {
  if (state.finished()) return false;
  continuations_of(locked, state).in_line.push_back({std::move(action), owner});
  return true;
}

void Completion::withdraw(Locked locked, FutureState& state, const void* owner,
                          Continuations& withdrawn) noexcept {
  if (state.finished()) return;
  Continuations*& continuations = state.continuations(locked);
  if (continuations == nullptr) return;
  try {
    move_notes(continuations->in_line, owner, withdrawn.in_line);
    move_notes(continuations->callbacks, owner, withdrawn.callbacks);
  } catch (const std::bad_alloc&) {
    return;  // what stays costs its memory until the future is finished
  }
  if (!continuations->in_line.empty() || !continuations->callbacks.empty()) return;
  delete std::exchange(continuations, nullptr);
  --with_continuations_;
}

bool Completion::try_again(Locked locked, TaskState& task) {
  if (!task.options || task.ended_attempts() > task.options->retries || phase_.kill_signal != 0 ||
      phase_.broken)
    return false;
  KINDRED_ASSERT(!task.finished());
  ++totals_.retried;
  pending_.push_front(locked, task);
  return true;
}

void Completion::finish_cancelled(Locked locked, TaskState& task, const char* how) {
  task.note_cancelled(how);
  finish(locked, task, Outcome::cancelled);
}

void Completion::cancel_pending(Locked locked) {
  while (TaskState* const task = pending_.front(locked)) {
    pending_.remove(locked, *task);
    finish_cancelled(locked, *task, "by shutdown, before it began");
  }
}

void Completion::fail_pending(Locked locked, const std::function<std::unique_ptr<Failure>()>& make) {
  while (TaskState* const task = pending_.front(locked)) {
    pending_.remove(locked, *task);
    ++totals_.lost;
    finish_with(locked, *task, Outcome::failure, make);
  }
}

}  // namespace kindred::internal
