#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

/// A program file or shared library, known by its build id (or, where the linker wrote none, by size and
/// path).
struct Module {
  std::string path;      ///< as the loader knows it; the program: resolved from /proc/self/exe
  std::string build_id;  ///< hex; empty: none was linked in
  std::uintptr_t base = 0;
  std::uintptr_t begin = 0;  ///< of the mapped range
  std::uintptr_t end = 0;
};

/// All modules loaded in this process now; the program first.
[[nodiscard]] std::vector<Module> loaded_modules();

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

/// Copies bytes at an address that another process named, and that may be wrong: false unless all of them are
/// constants of a loaded module, which no thread can write or unmap meanwhile.
[[nodiscard]] bool copy_constant(const void* from, void* to, std::size_t bytes) noexcept;

/// Throws the `UsageError` with both build ids where a module of `parents` is loaded here, under the same
/// path, as another build.
void compare_builds(const std::vector<Module>& parents);

/// The name of the function at the address, demangled, without parameters; empty where no symbol table names
/// it.
[[nodiscard]] std::string function_name(const void* address);
/// A stack for people, a line a frame, up to where the task was called: "parse in /usr/lib/libfilters.so".
/// Frames that only lead to the program's code (std::invoke, kindred's own, the system's start of a thread)
/// are left out. Another process has written it: all is checked.
[[nodiscard]] std::string name_frames(std::span<const CodeReference> frames, const CodeBook& code);
/// Where such a stack begins, for a sentence: its first frame, and the first of the program where that is
/// another: "memcpy in /lib/libc.so.6, called by parse".
[[nodiscard]] std::string first_of_program(std::string_view stack);
/// A place as file and offset, which addr2line takes: `libfilters.so+0x1a30`; empty where nothing is loaded
/// there.
[[nodiscard]] std::string place_name(const void* address);

/// Are these bytes in a file that is loaded here, so that they can be read? `data_only`: and not in a part
/// that can be run.
[[nodiscard]] bool is_loaded(const void* at, std::size_t bytes, bool data_only) noexcept;

}  // namespace kindred::internal
