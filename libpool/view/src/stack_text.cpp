#include "stack_text.hpp"

#include <filesystem>

#include <fmt/format.h>

namespace kindred::view {

boost::json::array stacks_as_json(const std::vector<ThreadStack>& stacks) {
  boost::json::array threads;
  for (const auto& stack : stacks) {
    boost::json::array frames;
    for (const auto& frame : stack.frames) {
      frames.push_back({{"address", fmt::format("{:#x}", frame.address)},
                        {"function", frame.function},
                        {"module", frame.module},
                        {"place", frame.place}});
    }
    threads.push_back({{"tid", stack.tid}, {"name", stack.name}, {"frames", std::move(frames)}});
  }
  return threads;
}

std::vector<std::string> stacks_as_lines(const std::vector<ThreadStack>& stacks) {
  std::vector<std::string> lines;
  for (const auto& stack : stacks) {
    lines.push_back(fmt::format("thread {} ({})", stack.tid, stack.name));
    for (std::size_t i = 0; i < stack.frames.size(); ++i) {
      const StackFrame& frame = stack.frames[i];
      const auto function = frame.function.empty() ? fmt::format("{:#x}", frame.address) : frame.function;
      const auto place = frame.place.empty() ? "in " + std::filesystem::path{frame.module}.filename().string()
                                             : "at " + frame.place;
      lines.push_back(fmt::format("  #{} {} {}", i, function, place));
    }
  }
  return lines;
}

}  // namespace kindred::view
