#include "linux/available_memory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>

#include "linux/small_file.hpp"

namespace kindred::internal {
namespace {

constexpr std::uint64_t unknown = std::numeric_limits<std::uint64_t>::max();

/// The number behind `name` in lines of names and numbers; the first number of the text where `name` is
/// empty.
std::uint64_t number(std::string_view text, std::string_view name, std::uint64_t otherwise) {
  std::size_t at = 0;
  while (!name.empty() && !text.substr(at).starts_with(name)) {
    at = text.find('\n', at);
    if (at == std::string_view::npos) return otherwise;
    ++at;
  }
  text.remove_prefix(at + name.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  std::uint64_t value = 0;
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{}
             ? value
             : otherwise;  // "max" is none
}

struct GroupFiles {
  const char* root;
  const char* line;  ///< of /proc/self/cgroup
  const char* limit;
  const char* usage;
  const char* cache;  ///< of memory.stat: what the kernel takes back before it kills
};
constexpr std::array<GroupFiles, 2> hierarchies{
    {{"/sys/fs/cgroup", "0::", "/memory.max", "/memory.current", "inactive_file "},
     {"/sys/fs/cgroup/memory", ":memory:", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
      "total_inactive_file "}}};

/// What a group has in use, but for what the kernel takes back before it kills.
std::uint64_t taken_in(const GroupFiles& files, const std::string& group) {
  const std::uint64_t used = number(read_small_file(group + files.usage), {}, 0);
  const std::uint64_t cached = number(read_small_file(group + "/memory.stat"), files.cache, 0);
  return used - std::min(used, cached);
}

enum class Count : bool { unused, all };

/// What the limits from this process's group up to the root leave: of the memory that is unused, or of all.
std::uint64_t left_by(const GroupFiles& files, std::string_view groups, Count count) {
  const auto found = groups.find(files.line);
  if (found == std::string_view::npos) return unknown;
  groups.remove_prefix(found + std::string_view{files.line}.size());
  const std::string root = files.root;
  std::uint64_t left = unknown;
  for (std::string group = root + std::string{groups.substr(0, groups.find('\n'))};;
       group.resize(group.rfind('/'))) {
    const std::uint64_t limit = number(read_small_file(group + files.limit), {}, unknown);
    if (limit < unknown / 2) {  // cgroup v1 writes "no limit" as a very large number
      const std::uint64_t taken = count == Count::all ? 0 : taken_in(files, group);
      left = std::min(left, limit - std::min(limit, taken));
    }
    if (group.size() <= root.size()) return left;
  }
}

std::uint64_t memory(Count count) {
  const bool all = count == Count::all;
  const std::string machine = read_small_file("/proc/meminfo");
  const std::uint64_t ram = number(machine, all ? "MemTotal:" : "MemAvailable:", unknown);
  const std::uint64_t swap = number(machine, all ? "SwapTotal:" : "SwapFree:", 0);
  std::uint64_t bytes = ram == unknown ? unknown : (ram + swap) * 1024;
  const std::string groups = read_small_file("/proc/self/cgroup");
  for (const auto& files : hierarchies) bytes = std::min(bytes, left_by(files, groups, count));
  return bytes;
}

}  // namespace

std::uint64_t available_memory() { return memory(Count::unused); }
std::uint64_t memory_in_all() { return memory(Count::all); }

}  // namespace kindred::internal
