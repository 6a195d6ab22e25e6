#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kindred::view {

struct StackFrame {
  std::uint64_t address = 0;
  std::string function;  ///< demangled; empty: not known
  std::string module;    ///< path of the program or library
  std::string place;     ///< "file.cpp:12"; empty: no debug information
};

struct ThreadStack {
  std::uint32_t tid = 0;
  std::string name;
  std::vector<StackFrame> frames;  ///< innermost first
};

/// What each thread of a process does now. The process stands still while its stacks are walked, a few
/// milliseconds, and sees nothing of it; names are looked up after that.
/// Errors: `SystemError` (the kernel does not allow it; the process has ended). Blocks: reads debug
/// information.
[[nodiscard]] std::vector<ThreadStack> stacks_of(std::uint32_t pid);

}  // namespace kindred::view
