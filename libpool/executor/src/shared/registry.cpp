#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "shared/per_process.hpp"
#include "shared/shared_object.hpp"

namespace kindred::internal {

namespace {
constexpr std::uint32_t smallest_accounts = (4096 - accounts_offset) / sizeof(Account);
}

class SharedObjectRegistry::State : public std::enable_shared_from_this<State> {
 public:
  explicit State(std::shared_ptr<ContextLife> life) : life_{std::move(life)} {}

  std::atomic<std::uint32_t> accounts{smallest_accounts};

  std::shared_ptr<SharedObject> make(SharedKind kind, const ObjectState& start, std::uint64_t parameter = 0,
                                     std::uint64_t arena_bytes = 0) {
    require_here(to_string(kind), *life_);
    std::uint64_t id = 0;
    {
      const std::lock_guard lock{mutex_};
      id = next_id_++;
    }
    sweep();
    auto object = std::make_shared<SharedObject>(life_, kind, id, accounts.load(std::memory_order_relaxed),
                                                 parameter, arena_bytes, start);
    const std::lock_guard lock{mutex_};
    if (closed_) object->throw_closed();
    auto handles = share(object);
    entries_.emplace(id, Entry{std::move(object), handles});
    return handles;
  }

  std::shared_ptr<SharedObject> find(std::uint64_t id) {
    const std::lock_guard lock{mutex_};
    const auto found = entries_.find(id);
    if (found == entries_.end()) return nullptr;
    auto handles = found->second.handles.lock();
    if (handles == nullptr) {
      handles = share(found->second.object);
      found->second.handles = handles;
    }
    return handles;
  }

  void owner_died(std::uint32_t owner, std::int32_t worker, std::uint32_t pid) {
    // Without the lock: a user's thread that makes an object does not wait for all the others to be looked
    // through.
    for (const auto& object : all()) settle_dead(*object, owner, worker, pid);
    sweep();
  }

  void close() {
    {
      const std::lock_guard lock{mutex_};
      closed_ = true;
    }
    for (const auto& object : all()) object->close();
  }

  void sweep() {
    std::vector<std::shared_ptr<SharedObject>> freed;  // destroyed when the lock is free
    const std::lock_guard lock{mutex_};
    for (std::size_t i = 0; i < unhandled_.size();) {
      const auto found = entries_.find(unhandled_[i]);
      const bool gone = found == entries_.end() || !found->second.handles.expired();
      const bool unused = !gone && is_unused(*found->second.object);
      if (unused) {
        freed.push_back(std::move(found->second.object));
        entries_.erase(found);
      }
      if (gone || unused) {
        unhandled_[i] = unhandled_.back();
        unhandled_.pop_back();
      } else {
        ++i;
      }
    }
  }

  std::size_t size() {
    const std::lock_guard lock{mutex_};
    return entries_.size();
  }

 private:
  struct Entry {
    std::shared_ptr<SharedObject> object;
    std::weak_ptr<SharedObject> handles;  ///< counts the handles of this process
  };

  /// A share that tells us when the last one goes.
  std::shared_ptr<SharedObject> share(const std::shared_ptr<SharedObject>& object) {
    return {object.get(), [object, state = weak_from_this()](SharedObject*) {
              if (!object->in_its_process())
                return;  // in a fork of the user's own our lock may be taken for ever
              if (const auto alive = state.lock()) alive->handles_gone(object->id());
            }};
  }

  void handles_gone(std::uint64_t id) {
    {
      const std::lock_guard lock{mutex_};
      unhandled_.push_back(id);
    }
    sweep();
  }

  /// No handle is left in this process; has another process one? A message that is not answered yet holds the
  /// memory, a worker has an account, a handle that a worker has sent is counted in `on_the_way`.
  static bool is_unused(const SharedObject& object) noexcept {
    if (object.shared_memory().use_count() != 1 || object.memory().on_the_way.load() != 0) return false;
    const std::uint32_t used = object.accounts_used();
    for (std::uint32_t i = 1; i < used; ++i) {
      if (object.account(i).owner.load(std::memory_order_acquire) != 0) return false;
    }
    return true;
  }

  std::vector<std::shared_ptr<SharedObject>> all() {
    const std::lock_guard lock{mutex_};
    std::vector<std::shared_ptr<SharedObject>> objects;
    objects.reserve(entries_.size());
    for (const auto& [id, entry] : entries_) objects.push_back(entry.object);
    return objects;
  }

  std::shared_ptr<ContextLife> life_;
  std::mutex mutex_;
  std::uint64_t next_id_ = 1;
  bool closed_ = false;
  std::unordered_map<std::uint64_t, Entry> entries_;
  std::vector<std::uint64_t>
      unhandled_;  ///< ids of objects that lost their last handle here, and that another process had then
};

namespace {

/// The registries of this process, for handles that come back.
struct Registries {
  std::mutex mutex;
  std::map<std::uint64_t, std::weak_ptr<SharedObjectRegistry::State>> by_context;
};

Registries& registries() { return per_process<Registries>(); }

[[noreturn]] void throw_out_of_range(const char* what, const std::string& value, const std::string& range) {
  throw UsageError{std::string{what} + " is " + value + ". It must be " + range + "."};
}

}  // namespace

std::shared_ptr<SharedObject> find_in_registry(ContextId context, std::uint64_t id) {
  std::shared_ptr<SharedObjectRegistry::State> state;
  {
    Registries& all = registries();
    const std::lock_guard lock{all.mutex};
    const auto found = all.by_context.find(context.value);
    if (found != all.by_context.end()) state = found->second.lock();
  }
  return state == nullptr ? nullptr : state->find(id);
}

SharedObjectRegistry::SharedObjectRegistry(std::shared_ptr<ContextLife> life)
    : life_{std::move(life)}, state_{std::make_shared<State>(life_)} {
  Registries& all = registries();
  const std::lock_guard lock{all.mutex};
  all.by_context[life_->id.value] = state_;
}

SharedObjectRegistry::~SharedObjectRegistry() {
  if (owner_here(life_->id) != 1)
    return;  // a copy that a fork inherited: the objects are still in use, and our locks may be taken for
             // ever
  close();
  Registries& all = registries();
  const std::lock_guard lock{all.mutex};
  all.by_context.erase(life_->id.value);
}

void SharedObjectRegistry::make_room_for(std::size_t processes) noexcept {
  constexpr std::size_t most = 1U << 20U;
  state_->accounts.store(
      static_cast<std::uint32_t>(std::clamp<std::size_t>(processes, smallest_accounts, most)),
      std::memory_order_relaxed);
}

Mutex SharedObjectRegistry::make_mutex() { return Mutex{state_->make(SharedKind::mutex, {})}; }

Semaphore SharedObjectRegistry::make_semaphore(std::ptrdiff_t permits) {
  if (permits < 0 || permits > Semaphore::max()) {
    throw_out_of_range("the number of permits of a Semaphore", std::to_string(permits),
                       "from 0 to " + std::to_string(Semaphore::max()));
  }
  ObjectState start{};
  start.set(SemaphoreState{.available = permits, .given_back = 0, .spare = {}});
  return Semaphore{state_->make(SharedKind::semaphore, start)};
}

Event SharedObjectRegistry::make_event() { return Event{state_->make(SharedKind::event, {})}; }

Barrier SharedObjectRegistry::make_barrier(std::ptrdiff_t count) {
  if (count < 1 || count > Barrier::max()) {
    throw_out_of_range("the number of participants of a Barrier", std::to_string(count),
                       "from 1 to " + std::to_string(Barrier::max()));
  }
  ObjectState start{};
  start.set(BarrierState{.expected = static_cast<std::uint32_t>(count),
                         .arrived = 0,
                         .phase = 0,
                         .resets = 0,
                         .broken = 0,
                         .dead_worker = 0,
                         .dead_pid = 0,
                         .spare = 0});
  return Barrier{state_->make(SharedKind::barrier, start)};
}

Counter SharedObjectRegistry::make_counter(std::int64_t start) {
  Counter counter{state_->make(SharedKind::counter, {})};
  counter.store(start);
  return counter;
}

std::shared_ptr<SharedObject> SharedObjectRegistry::make_channel_object(std::size_t capacity,
                                                                        std::size_t bytes,
                                                                        std::size_t bytes_each) {
  constexpr std::size_t largest_capacity = std::size_t{1} << 40U;
  constexpr std::size_t largest_room = std::size_t{1} << 46U;
  if (capacity == 0 || capacity > largest_capacity) {
    throw_out_of_range("the capacity of a Channel", std::to_string(capacity),
                       "from 1 to " + std::to_string(largest_capacity));
  }
  if (bytes > largest_room)
    throw_out_of_range("the room of a Channel in bytes", std::to_string(bytes),
                       "at most " + std::to_string(largest_room));
  if (bytes == 0 && bytes_each != 0) bytes = capacity * std::min(bytes_each + 32, largest_room / capacity);
  if (bytes == 0) bytes = std::clamp(capacity * 256, std::size_t{64} * 1024, std::size_t{16} * 1024 * 1024);
  const std::size_t room = (std::max(bytes, std::size_t{64}) + 63) / 64 * 64;
  return state_->make(SharedKind::channel, {}, capacity, room);
}

void SharedObjectRegistry::owner_died(std::uint32_t owner, std::int32_t worker, std::uint32_t pid) noexcept {
  if (owner > 1) state_->owner_died(owner, worker, pid);
}

void SharedObjectRegistry::close() noexcept {
  if (owner_here(life_->id) == 1) state_->close();
}
void SharedObjectRegistry::sweep() noexcept { state_->sweep(); }
std::size_t SharedObjectRegistry::size() const { return state_->size(); }

}  // namespace kindred::internal
