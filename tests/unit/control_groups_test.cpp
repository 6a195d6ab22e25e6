// Where this process is among the control groups, which of them are delegated, and what they count: from
// texts of the kernel.
#include <string>

#include "kindred/internal/worker_groups.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

const std::string root_line = "22 28 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
std::string mount_line(const std::string& group, const std::string& point) {
  return "31 22 0:27 " + group + " " + point +
         " rw,nosuid,nodev shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";
}

std::string folder_of(const std::string& mounts, const std::string& groups) {
  const auto place = find_group(mounts, groups);
  return place ? place->folder : "nowhere";
}

}  // namespace

TEST_CASE(
    "the folder of the own control group is where cgroup v2 is mounted, and what /proc/self/cgroup says below it") {
  const std::string mounts = root_line + mount_line("/", "/sys/fs/cgroup");
  const auto place = find_group(mounts, "0::/system.slice/shop.service\n");
  REQUIRE(place.has_value());
  CHECK(place->folder == "/sys/fs/cgroup/system.slice/shop.service");
  CHECK(place->top == "/sys/fs/cgroup");
  CHECK(folder_of(mounts, "0::/\n") == "/sys/fs/cgroup");
  CHECK(folder_of(root_line + mount_line("/", "/mnt/my\\040groups"), "0::/a\n") == "/mnt/my groups/a");
}

TEST_CASE("beside hierarchies of cgroup v1, the group of the line that begins with 0:: counts") {
  const std::string mounts = root_line + "30 22 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
                             mount_line("/", "/sys/fs/cgroup/unified");
  CHECK(folder_of(mounts, "4:memory:/wrong\n1:name=systemd:/wrong\n0::/right\n") ==
        "/sys/fs/cgroup/unified/right");
  CHECK(folder_of(mounts, "4:memory:/wrong\n") == "nowhere");
  CHECK(folder_of(root_line, "0::/right\n") == "nowhere");
  CHECK(folder_of("", "") == "nowhere");
}

TEST_CASE("where a part of the tree is mounted, as in a container, its root is taken from the group's name") {
  const std::string mounts = root_line + mount_line("/docker/4711", "/sys/fs/cgroup");
  CHECK(folder_of(mounts, "0::/docker/4711\n") == "/sys/fs/cgroup");
  CHECK(folder_of(mounts, "0::/docker/4711/shop\n") == "/sys/fs/cgroup/shop");
  CHECK(folder_of(mounts, "0::/docker/47110\n") == "nowhere");
  CHECK(folder_of(mounts, "0::/docker\n") == "nowhere");
}

TEST_CASE("a group outside of the process's cgroup namespace is nowhere") {
  CHECK(folder_of(root_line + mount_line("/", "/sys/fs/cgroup"), "0::/../other\n") == "nowhere");
  CHECK(folder_of(root_line + mount_line("/../..", "/sys/fs/cgroup"), "0::/\n") == "nowhere");
}

TEST_CASE(
    "a group is delegated where systemd marked it, at a container's top, and to its owner where no systemd rules") {
  CHECK_FALSE(is_delegated({}));
  CHECK(is_delegated({.is_marked = true, .has_systemd = true}));
  CHECK(is_delegated({.is_container_top = true}));
  CHECK(is_delegated({.is_ours = true}));
  CHECK_FALSE(is_delegated({.is_ours = true, .has_systemd = true}));
}

TEST_CASE(
    "memory.events tells kills from allocations over the limit, and does not take oom_group_kill for either") {
  const auto events = read_memory_events("low 0\nhigh 7\nmax 23\noom 2\noom_kill 5\noom_group_kill 9\n");
  CHECK(events.over_limit == 2);
  CHECK(events.kills == 5);
  CHECK(read_memory_events("").kills == 0);
  CHECK(read_memory_events("oom_kill x\n").kills == 0);
}
