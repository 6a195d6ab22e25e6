#include <array>
#include <charconv>

#include "kindred/internal/worker_groups.hpp"

namespace kindred::internal {
namespace {

std::string_view take_until(std::string_view& text, char end) {
  const std::size_t at = text.find(end);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

// proc(5): space, tab, newline and backslash are written as a backslash and three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    unsigned code = 0;
    if (text.front() == '\\' && text.size() >= 4 &&
        std::from_chars(text.data() + 1, text.data() + 4, code, 8).ptr == text.data() + 4) {
      plain += static_cast<char>(code);
      text.remove_prefix(4);
    } else {
      plain += text.front();
      text.remove_prefix(1);
    }
  }
  return plain;
}

struct GroupMount {
  std::string root;   // the group that is mounted
  std::string point;  // where
};

// "36 35 0:31 ROOT POINT rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
std::optional<GroupMount> find_mount(std::string_view mounts) {
  while (!mounts.empty()) {
    std::string_view line = take_until(mounts, '\n');
    const std::size_t type = line.find(" - ");
    if (type == std::string_view::npos || !line.substr(type + 3).starts_with("cgroup2 ")) continue;
    for (int field = 0; field < 3; ++field) (void)take_until(line, ' ');
    GroupMount mount;
    mount.root = unescape(take_until(line, ' '));
    mount.point = unescape(take_until(line, ' '));
    return mount;
  }
  return {};
}

std::optional<std::string_view> unified_group(std::string_view groups) {
  while (!groups.empty()) {
    const std::string_view line = take_until(groups, '\n');
    if (line.starts_with("0::/")) return line.substr(3);
  }
  return {};
}

}  // namespace

std::optional<GroupPlace> find_group(std::string_view mounts, std::string_view groups) {
  const auto mount = find_mount(mounts);
  const auto group = unified_group(groups);
  if (!mount || !group) return {};
  // "/.." begins the name of a group outside of this process's cgroup namespace.
  if (group->starts_with("/..") || mount->root.starts_with("/..")) return {};
  std::string_view below = *group == "/" ? std::string_view{} : *group;
  if (mount->root != "/") {
    if (!below.starts_with(mount->root)) return {};
    below.remove_prefix(mount->root.size());
    if (!below.empty() && below.front() != '/') return {};
  }
  return GroupPlace{.folder = mount->point + std::string{below}, .top = mount->point};
}

MemoryEvents read_memory_events(std::string_view text) {
  MemoryEvents events;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    const std::string_view name = take_until(line, ' ');
    std::uint64_t count = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), count).ec != std::errc{}) continue;
    if (name == "oom") events.over_limit = count;
    if (name == "oom_kill") events.kills = count;
  }
  return events;
}

}  // namespace kindred::internal
