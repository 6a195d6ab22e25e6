#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace kindred::internal {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;  ///< nothing: for ever

/// Sleeps on a 32-bit word that any process may share (never FUTEX_PRIVATE, never `std::atomic::wait`) while
/// it holds `expected`. Returns false where the deadline passed; true otherwise, also spuriously.
bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                Deadline deadline = {}) noexcept;
/// Wakes up to `count` sleepers on the word.
void futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept;

/// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_{fd} {}
  Descriptor(Descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Descriptor() { reset(); }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept;

 private:
  int fd_ = -1;
};

/// A close-on-exec dup. Errors: `SystemError` (EMFILE).
[[nodiscard]] Descriptor duplicate(int fd);

/// A bell within this process (eventfd, non-blocking): rings are counted until a thread hears them. For
/// workers, see `SharedBell`.
class Doorbell {
 public:
  Doorbell();                                                        ///< a new one. Errors: `SystemError`
  explicit Doorbell(Descriptor fd) noexcept : fd_{std::move(fd)} {}  ///< the one behind a received descriptor
  void ring() const noexcept;                        ///< any thread, any process; never blocks
  bool wait(Deadline deadline = {}) const noexcept;  ///< true: it rang (and is silent again)
  bool clear() const noexcept;                       ///< silences it; true: it had rung
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  Descriptor fd_;
};

/// Makes the light side of an asymmetric fence work: after `heavy_barrier()` every thread of every registered
/// process has passed a full barrier (membarrier GLOBAL_EXPEDITED). The light side is then a compiler
/// barrier. `register_light_side()` is called once per process (again after fork); false: the kernel refuses,
/// use a full fence instead. `heavy_barrier()` is a full fence of the calling thread in any case; false: and
/// of no other, because the kernel refuses it to this process.
bool register_light_side() noexcept;
bool heavy_barrier() noexcept;

/// Has `fork` made this process another one since the library was loaded? Cheap: a counter that an atfork
/// handler raises.
[[nodiscard]] std::uint32_t fork_generation() noexcept;
/// Has `callback` called in the child of each fork that raises the generation, after it was raised. For state
/// that must not be used in the child; it may only store to memory. At most eight; call it once, from a
/// static initialiser.
void call_in_forked_child(void (*callback)() noexcept) noexcept;
[[nodiscard]] std::uint32_t process_id() noexcept;  ///< getpid, cached per fork generation
[[nodiscard]] std::uint32_t thread_id() noexcept;   ///< gettid, cached per thread and fork generation
[[nodiscard]] int current_cpu() noexcept;           ///< sched_getcpu
void yield_cpu() noexcept;                          ///< sched_yield
/// Lets the calling thread, or another process of one thread, go on on another CPU than this one, of those
/// that it may use; which those are stays as it was. False: there is none.
bool leave_cpu(int cpu, std::uint32_t process = 0) noexcept;
/// Names the calling thread, and leaves every signal to the others: for threads of the library's own.
void begin_service_thread(const char* name) noexcept;

}  // namespace kindred::internal
