#include "support/audit.hpp"

#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include <dirent.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include "support/crowd.hpp"
#include "support/deadline.hpp"
#include "support/process.hpp"

namespace kindred::test {
namespace {

const std::string shared_memory = "/dev/shm entry";

void each_entry(const char* path, const std::function<void(int folder, const std::string& name)>& visit) {
  DIR* folder = ::opendir(path);
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string name{entry->d_name};
    if (name != "." && name != "..") visit(::dirfd(folder), name);
  }
  ::closedir(folder);
}

std::string link_target(const std::string& path) {
  std::string target(512, '\0');
  const auto size = ::readlink(path.c_str(), target.data(), target.size());
  target.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return target;
}

ResourceAudit::Inventory take_inventory() {
  ResourceAudit::Inventory found;
  auto& processes = found["process"];
  for (const auto& info : descendants(tree_root())) {
    if (info.pid == ::getpid()) continue;
    ++processes["pid " + std::to_string(info.pid) + " started " + std::to_string(info.started) + " (" +
                info.name + ")"];
  }
  auto& descriptors = found["descriptor"];
  each_entry("/proc/self/fd", [&](int folder, const std::string& name) {
    if (name != std::to_string(folder)) ++descriptors[name + " -> " + link_target("/proc/self/fd/" + name)];
  });
  auto& threads = found["thread"];
  each_entry("/proc/self/task", [&](int, const std::string& name) {
    std::ifstream file{"/proc/self/task/" + name + "/comm"};
    std::string comm;
    std::getline(file, comm);
    ++threads["tid " + name + " (" + comm + ")"];
  });
  auto& mappings = found["mapping"];
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:") == std::string::npos) continue;
    std::istringstream words{line};
    std::string range, access, offset, device, inode, path;
    words >> range >> access >> offset >> device >> inode >> path;
    ++mappings[path + " inode " + inode];
  }
  auto& files = found[shared_memory];
  each_entry("/dev/shm", [&](int, const std::string& name) { ++files[name]; });
  return found;
}

// Has a process that does not belong to this test mapped the file? Then it is of another program, such as the
// semaphores of Python's multiprocessing.
bool is_of_another_program(const std::string& file) {
  std::set<std::string> ours{std::to_string(tree_root()), std::to_string(::getpid())};
  for (const auto& info : descendants(tree_root())) ours.insert(std::to_string(info.pid));
  bool found = false;
  each_entry("/proc", [&](int, const std::string& name) {
    if (found || name.find_first_not_of("0123456789") != std::string::npos || ours.contains(name)) return;
    std::ifstream maps{"/proc/" + name + "/maps"};
    for (std::string line; !found && std::getline(maps, line);) found = line.ends_with(" " + file);
  });
  return found;
}

int total(const std::map<std::string, int>& things) {
  int sum = 0;
  for (const auto& [name, count] : things) sum += count;
  return sum;
}

}  // namespace

ResourceAudit::ResourceAudit() : before_{take_inventory()} {}

std::string ResourceAudit::difference(std::chrono::milliseconds grace) const {
  std::string listing;
  // As the deadline of a case: longer where others have the machine, too.
  const std::chrono::duration<double> patience = grace * slowness() * crowd();
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::milliseconds>(patience);
  do {
    listing.clear();
    auto now = take_inventory();
    for (auto& [kind, things] : now) {
      const auto& old = before_.at(kind);
      // A descriptor or thread may have been replaced by another: only more of them is a leak.
      const bool replaceable = kind == "descriptor" || kind == "thread";
      if (replaceable && total(things) <= total(old)) continue;
      for (const auto& [name, count] : things) {
        const auto known = old.find(name);
        const int had = known == old.end() ? 0 : known->second;
        if (count > had && !(kind == shared_memory && is_of_another_program("/dev/shm/" + name)))
          listing +=
              "  " + kind + " " + name + (count - had > 1 ? " x " + std::to_string(count - had) : "") + "\n";
      }
    }
    if (listing.empty()) return listing;
    // The kernel tells nobody when a joined thread leaves /proc: look again.
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  } while (std::chrono::steady_clock::now() < end);
  return listing;
}

void ResourceAudit::finish() {
  if (finished_) return;
  finished_ = true;
  const auto listing = difference();
  CHECK_MESSAGE(listing.empty(), "more than before:\n", listing);
}

}  // namespace kindred::test
