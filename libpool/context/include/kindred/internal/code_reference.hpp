#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kindred/internal/modules.hpp"

namespace kindred::internal {

/// A place in the code that means the same in every process of a context, whatever the address layout: module
/// index and offset.
///
///     63      48 47                                  0
///    +----------+-------------------------------------+
///    | module+1 | offset from the module's load base  |        0: none
///    +----------+-------------------------------------+
using CodeReference = std::uint64_t;
inline constexpr unsigned code_module_shift = 48;
/// The module's index, +1; 0: none.
[[nodiscard]] constexpr std::size_t code_module(CodeReference reference) noexcept {
  return reference >> code_module_shift;
}
[[nodiscard]] constexpr std::uintptr_t code_offset(CodeReference reference) noexcept {
  return reference & ((CodeReference{1} << code_module_shift) - 1);
}

/// The parent's side: gives addresses their references. Any thread.
class CodeBook {
 public:
  CodeBook();
  /// Errors: `UsageError` where the address is in no loaded module (code made at run time).
  [[nodiscard]] CodeReference reference(const void* address) {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (at >= program_begin_ && at < program_end_) [[likely]]
      return (CodeReference{1} << code_module_shift) | (at - program_base_);
    return reference_in_library(at);
  }
  [[nodiscard]] std::size_t size() const;  ///< modules known so far
  [[nodiscard]] Module module(std::size_t index) const;
  /// The address in this process; null for none.
  [[nodiscard]] const void* address(CodeReference reference) const;

 private:
  CodeReference reference_in_library(std::uintptr_t at);

  std::uintptr_t program_base_ = 0;
  std::uintptr_t program_begin_ = 0;
  std::uintptr_t program_end_ = 0;
  mutable std::mutex mutex_;
  std::vector<Module> modules_;  // indices are for ever
};

/// The worker's side: turns references into addresses. One thread at a time.
class CodeMap {
 public:
  /// Tells of the module with that index. `load`: may be loaded by its path where it is not yet, its build id
  /// being right.
  void add(std::size_t index, Module as_in_parent, bool load);
  /// Errors: `UsageError` that names the library: not loaded here, or another build.
  [[nodiscard]] void* resolve(CodeReference reference);
  [[nodiscard]] bool knows(CodeReference reference) const noexcept;

 private:
  struct Entry {
    Module wanted;
    bool load = false;
    bool known = false;
    std::uintptr_t base = 0;
    std::uintptr_t size = 0;
  };
  std::vector<Entry> entries_;
};

}  // namespace kindred::internal
