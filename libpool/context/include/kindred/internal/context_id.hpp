#pragma once

#include <cstdint>
#include <string>

#include "kindred/start_method.hpp"

namespace kindred::internal {

/// Names one context among all of a machine: it crosses process borders inside handles, and an error can
/// print both sides of a mismatch from the ids alone.
///
///     63            32 31                    2 1    0
///    +----------------+-----------------------+------+
///    | pid of owner   | serial in that process| how  |     0 is no context
///    +----------------+-----------------------+------+
struct ContextId {
  std::uint64_t value = 0;

  [[nodiscard]] static ContextId make(StartMethod method) noexcept;  ///< next serial of this process
  [[nodiscard]] StartMethod start_method() const noexcept { return static_cast<StartMethod>(value & 3U); }
  [[nodiscard]] std::uint32_t owner_pid() const noexcept { return static_cast<std::uint32_t>(value >> 32U); }
  [[nodiscard]] std::uint32_t serial() const noexcept { return static_cast<std::uint32_t>(value) >> 2U; }
  explicit operator bool() const noexcept { return value != 0; }
  friend bool operator==(ContextId, ContextId) = default;
};

/// Returns "context 2 (spawn, of pid 4711)".
[[nodiscard]] std::string to_string(ContextId id);

/// Throws the `UsageError` that every misplaced handle gives: names both contexts and the mend. `what` is
/// "Mutex", "Logger" ...
[[noreturn]] void throw_foreign_handle(const char* what, ContextId handle, ContextId here);

}  // namespace kindred::internal
