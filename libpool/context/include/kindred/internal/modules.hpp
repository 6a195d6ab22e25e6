#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kindred::internal {

/// A program file or shared library, known by its build id (or, where the linker wrote none, by size and
/// path).
struct Module {
  std::string path;      ///< as the loader knows it; the program: resolved from /proc/self/exe
  std::string build_id;  ///< hex; empty: none was linked in
  std::uintptr_t base = 0;
  std::uintptr_t begin = 0;  ///< of the mapped range
  std::uintptr_t end = 0;

  /// The last part of the path: the dynamic linker may know a file by different links in two processes.
  [[nodiscard]] std::string_view file() const noexcept;
  /// The build id for a message; where there is none, it says how to have one.
  [[nodiscard]] std::string build() const;
};

/// All modules loaded in this process now; the program first.
[[nodiscard]] std::vector<Module> loaded_modules();

/// Throws the `UsageError` with both build ids where a module of `parents` is loaded here, under the same
/// path, as another build.
void compare_builds(const std::vector<Module>& parents);

/// Copies bytes at an address that another process named, and that may be wrong: false unless all of them are
/// constants of a loaded module, which no thread can write or unmap meanwhile.
[[nodiscard]] bool copy_constant(const void* from, void* to, std::size_t bytes) noexcept;

/// Are these bytes in a file that is loaded here, so that they can be read? `data_only`: and not in a part
/// that can be run.
[[nodiscard]] bool is_loaded(const void* at, std::size_t bytes, bool data_only) noexcept;

}  // namespace kindred::internal
