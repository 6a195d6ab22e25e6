#pragma once

#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/task_options.hpp"

namespace kindred::internal {

struct EntryInfo;
class PoolCore;

/// One call on its way into a pool: its arguments are encoded first, then it is handed over.
class Submission {
 public:
  /// Errors: `UsageError` where the pool is shut down, or this process is not the pool's,
  /// `BrokenProcessPool`.
  explicit Submission(PoolCore& pool);
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;
  ~Submission();

  [[nodiscard]] Encoder& encoder() noexcept { return encoder_; }
  /// Call in a handler: the argument's own serialiser threw. `UsageError` goes on to the caller; anything
  /// else becomes the future's failure.
  void arguments_failed();
  /// Blocks while `max_pending` tasks wait.
  [[nodiscard]] StateHandle submit(const EntryInfo& entry, const void* function, const TaskOptions* options);
  /// As `submit`, but returns nothing instead of blocking.
  [[nodiscard]] std::optional<StateHandle> try_submit(const EntryInfo& entry, const void* function,
                                                      const TaskOptions* options);

 private:
  // What few calls need.
  struct Rare {
    std::vector<std::byte> scratch;       // arguments that do not fit into `small_`
    std::shared_ptr<SharedMemory> block;  // still larger: a call block
    std::unique_ptr<std::byte[]> large;   // or, where there are many of those, ordinary memory
    std::exception_ptr argument_error;
  };
  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more);
  [[nodiscard]] Rare& rare();
  static std::unique_ptr<Rare>& spare() noexcept;
  friend class PoolCore;

  PoolCore* pool_;
  std::unique_ptr<Rare> rare_;
  std::array<std::byte, 256> small_;  // as it comes
  Encoder encoder_;
};

}  // namespace kindred::internal
