#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kindred/barrier.hpp"
#include "kindred/counter.hpp"
#include "kindred/event.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/mutex.hpp"
#include "kindred/semaphore.hpp"
#include "kindred/shared_array.hpp"

namespace kindred {
template <class T>
class Channel;
}

namespace kindred::internal {

/// The parent's list of the shared objects of one executor: makes them, keeps each one as long as any process
/// holds it, and repairs what dead workers held. One per executor; its thread-safe members never wait for a
/// worker, whatever the workers do to the objects.
///
/// Ends before the executor's `ContextLife` may go; handles may outlive it.
class SharedObjectRegistry {
 public:
  explicit SharedObjectRegistry(std::shared_ptr<ContextLife> life);
  ~SharedObjectRegistry();
  SharedObjectRegistry(const SharedObjectRegistry&) = delete;
  SharedObjectRegistry& operator=(const SharedObjectRegistry&) = delete;

  /// Objects made from now on have room for the accounts of this many processes, this one included: a process
  /// that holds a handle at the same time. What fits into one page (112) costs nothing; each one beyond it 32
  /// bytes an object.
  void make_room_for(std::size_t processes) noexcept;

  // What the executor's members of the same names do. Errors: `UsageError` (a number out of range),
  // `SystemError` (memory, descriptors).
  [[nodiscard]] Mutex make_mutex();
  [[nodiscard]] Semaphore make_semaphore(std::ptrdiff_t permits);
  [[nodiscard]] Event make_event();
  [[nodiscard]] Barrier make_barrier(std::ptrdiff_t count);
  [[nodiscard]] Counter make_counter(std::int64_t start = 0);
  /// `bytes`: room for the encoded elements altogether; 0: chosen from `T` and `capacity`.
  template <class T>
  [[nodiscard]] Channel<T> make_channel(std::size_t capacity, std::size_t bytes = 0) {
    return Channel<T>{make_channel_object(capacity, bytes, Channel<T>::encoded_bytes())};
  }
  template <class T>
  [[nodiscard]] SharedArray<T> make_array(std::size_t size, ArrayAccess access = ArrayAccess::maker_writes) {
    return SharedArray<T>{make_array_block(life_, size, sizeof(T), access), size};
  }

  /// Tells that the worker incarnation `owner` has ended (reaped), and how to name it in errors. Gives back
  /// what it held, wakes threads that may have slept for a wake-up that it owed. Exactly once per
  /// incarnation, however it ended. Blocks: never for a worker. Threads: any.
  void owner_died(std::uint32_t owner, std::int32_t worker = -1, std::uint32_t pid = 0) noexcept;
  /// Ends every wait in this process, now and later, with a `UsageError`: for the executor's end, and for a
  /// pool that broke and will have no worker again. Called by the destructor.
  void close() noexcept;
  /// Frees the objects that no process holds any more. Happens by itself when one is made and when a handle
  /// here goes.
  void sweep() noexcept;
  [[nodiscard]] std::size_t size() const;  ///< objects alive

  class State;

 private:
  [[nodiscard]] std::shared_ptr<SharedObject> make_channel_object(std::size_t capacity, std::size_t bytes,
                                                                  std::size_t bytes_each);

  std::shared_ptr<ContextLife> life_;
  std::shared_ptr<State> state_;
};

}  // namespace kindred::internal
