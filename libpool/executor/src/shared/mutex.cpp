#include "kindred/mutex.hpp"

#include "kindred/error.hpp"
#include "kindred/internal/this_process.hpp"
#include "shared/shared_object.hpp"

namespace kindred {

using namespace internal;

namespace {

owner_word::Word& word_of(SharedObject& object) noexcept { return object.memory().words[0]; }

bool held_here(const SharedObject& object) noexcept {
  return object.locked_by_thread.load(std::memory_order_relaxed) == thread_id();
}

[[noreturn]] void throw_not_held(const SharedObject& object, const char* doing) {
  const std::uint32_t holder =
      object.memory().words[0].load(std::memory_order_relaxed) & owner_word::owner_mask;
  const std::uint32_t thread = object.locked_by_thread.load(std::memory_order_relaxed);
  std::string who = "nobody does";
  if (thread != 0) {
    who = "thread " + std::to_string(thread) + " of this process does";
  } else if (holder == 1) {
    who = "the parent does";
  } else if (holder != 0) {
    who = "another worker does";
  }
  throw UsageError{std::string{doing} + " a Mutex that this thread (" + std::to_string(thread_id()) +
                   " of pid " + std::to_string(process_id()) + ") does not hold: " + who +
                   ". The thread that locked it must do that; std::scoped_lock sees to it."};
}

// Crash: before the word names us the mutex is not ours; after it the parent releases it for us, marked as
// abandoned.
bool locked(SharedObject& object) {
  object.locked_by_thread.store(thread_id(), std::memory_order_relaxed);
  if (!object.closed()) return true;
  object.locked_by_thread.store(0, std::memory_order_relaxed);
  owner_word::unlock(word_of(object));
  object.throw_closed();
}

}  // namespace

bool Mutex::lock_before(Deadline deadline) const {
  SharedObject& object = use();
  if (owner_word::try_lock(word_of(object), object.owner())) [[likely]]
    return locked(object);
  if (held_here(object)) {
    throw UsageError{
        "this thread (" + std::to_string(thread_id()) + " of pid " + std::to_string(process_id()) +
        ") holds the Mutex that it wants to lock, and would wait for itself for ever. A Mutex is not recursive: lock it once, in the "
        "outermost function."};
  }
  switch (owner_word::lock(word_of(object), object.owner(), deadline)) {
    case owner_word::Outcome::locked: return locked(object);
    case owner_word::Outcome::timed_out: return false;
    case owner_word::Outcome::closed: break;
  }
  object.throw_closed();
}

void Mutex::lock() const { lock_before({}); }

bool Mutex::try_lock() const {
  SharedObject& object = use();
  return owner_word::try_lock(word_of(object), object.owner()) && locked(object);
}

void Mutex::unlock() const {
  // No `use()`: a guard must be able to let go whatever has become of the pool meanwhile.
  if (!*this) static_cast<void>(use());
  SharedObject& object = peek();
  if (!object.in_its_process()) return;
  if (!held_here(object)) throw_not_held(object, "unlocking");
  object.locked_by_thread.store(0, std::memory_order_relaxed);
  owner_word::unlock(word_of(object));
}

bool Mutex::abandoned() const {
  return (word_of(use()).load(std::memory_order_relaxed) & owner_word::abandoned) != 0;
}

void Mutex::make_consistent() const {
  SharedObject& object = use();
  if (!held_here(object)) throw_not_held(object, "making consistent");
  word_of(object).fetch_and(~owner_word::abandoned, std::memory_order_relaxed);
}

}  // namespace kindred
