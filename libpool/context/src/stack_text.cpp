#include "kindred/internal/stack_text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <vector>

#include "kindred/internal/function_name.hpp"

namespace kindred::internal {
namespace {

// The part of a demangled name that names the function: without the type that a template's name begins with.
std::string_view own_name(std::string_view name) {
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char byte = name[i];
    if (byte == '<' || byte == '(' || byte == '{') ++depth;
    if ((byte == '>' || byte == ')' || byte == '}') && depth > 0) --depth;
    if (byte == ' ' && depth == 0 && !name.substr(begin, i - begin).ends_with("operator")) begin = i + 1;
  }
  return name.substr(begin);
}

bool begins_with_one_of(std::string_view name, std::span<const std::string_view> beginnings) {
  return std::ranges::any_of(beginnings, [&](std::string_view each) { return name.starts_with(each); });
}

// Does the frame only lead from kindred's loop, or the system's start of a thread, to the program's code?
bool is_plumbing(std::string_view name) {
  constexpr std::array<std::string_view, 10> leads{
      "kindred::internal::", "std::__invoke",  "std::invoke",       "std::__apply_impl",   "std::apply",
      "std::_Function_",     "std::function<", "std::thread::_Inv", "std::thread::_State", "std::__detail::"};
  constexpr std::array<std::string_view, 6> starts{
      "__libc_start_main", "__libc_start_call_main", "_start", "start_thread", "clone3", "__clone"};
  return begins_with_one_of(own_name(name), leads) || std::ranges::find(starts, name) != starts.end();
}

// How the C library delivers a signal that the program raises itself.
bool raises_a_signal(std::string_view name) {
  constexpr std::array<std::string_view, 6> ways{
      "raise",         "gsignal", "pthread_kill", "__pthread_kill_implementation", "__pthread_kill_internal",
      "__pthread_kill"};
  return name.empty() || std::ranges::find(ways, name) != ways.end();
}

bool is_task_entry(std::string_view name) {
  return name.starts_with("kindred::internal::EntryOf") || name.starts_with("kindred::internal::ChunkEntry");
}

// "kindred::internal::EntryOf<main::{lambda(int)#1}, int>::run" -> "main::{lambda(int)#1}": a task that was
// compiled into its entry.
std::string task_of_entry(const std::string& name) {
  std::size_t begin = name.find('<');
  if (begin == std::string::npos) return name;
  ++begin;
  for (const std::string_view flag : {"false, ", "true, "}) {
    if (std::string_view{name}.substr(begin).starts_with(flag)) begin += flag.size();
  }
  int depth = 0;
  for (std::size_t i = begin; i < name.size(); ++i) {
    const char byte = name[i];
    if (depth == 0 && (byte == ',' || byte == '>')) return name.substr(begin, i - begin);
    if (byte == '<' || byte == '(' || byte == '{') ++depth;
    if (byte == '>' || byte == ')' || byte == '}') --depth;
  }
  return name;
}

struct NamedFrame {
  std::string name;  // empty: no symbol table has it
  std::size_t module = 0;
  CodeReference reference = 0;
};

std::string frame_text(const NamedFrame& frame, const CodeBook& code) {
  std::string text = frame.name;
  if (text.empty()) {
    std::array<char, 32> offset{};
    std::snprintf(offset.data(), offset.size(), "0x%llx",
                  static_cast<unsigned long long>(code_offset(frame.reference)));
    text = offset.data();
  }
  if (frame.module > 1 && frame.module <= code.size()) text += " in " + code.module(frame.module - 1).path;
  return text;
}

// The frames of the stack that help to find a fault in the program.
std::vector<NamedFrame> without_plumbing(const std::vector<NamedFrame>& all) {
  std::vector<NamedFrame> kept;
  bool raising = true;
  for (const NamedFrame& frame : all) {
    raising = raising && frame.module != 1 && raises_a_signal(frame.name);
    if (!raising && !is_plumbing(frame.name)) kept.push_back(frame);
  }
  return kept;
}

}  // namespace

std::string name_frames(std::span<const CodeReference> frames, const CodeBook& code) {
  std::vector<NamedFrame> all;
  for (const CodeReference reference : frames) {
    const void* const at = code.address(reference);
    NamedFrame frame{at == nullptr ? std::string{} : function_name(at), code_module(reference), reference};
    const bool entry = is_task_entry(frame.name);
    // From the entry on out it is ours. As the first of the program, the task was compiled into it.
    if (entry && std::ranges::any_of(all, [](const NamedFrame& inner) {
          return inner.module == 1 && !is_plumbing(inner.name);
        }))
      break;
    if (entry) {
      frame.name = task_of_entry(frame.name);
      // A task that is given by its address has a frame of its own, in a library perhaps; its entry names a
      // type.
      const bool names_a_type = frame.name.find("(*)") != std::string::npos;
      if (names_a_type &&
          std::ranges::any_of(all, [](const NamedFrame& inner) { return !is_plumbing(inner.name); }))
        break;
    }
    all.push_back(std::move(frame));
    if (entry) break;
  }
  const auto kept = without_plumbing(all);
  std::string text;
  for (const NamedFrame& frame : kept.empty() ? all : kept) {
    if (!text.empty()) text += '\n';
    text += frame_text(frame, code);
  }
  return text;
}

std::string first_of_program(std::string_view stack) {
  std::string first{stack.substr(0, stack.find('\n'))};
  for (std::string_view rest = stack; !rest.empty();) {
    const auto end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    if (line.find(" in /") != std::string_view::npos) continue;
    return line == first ? first : first + ", called by " + std::string{line};
  }
  return first;
}

}  // namespace kindred::internal
