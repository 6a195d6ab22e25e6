#pragma once

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "support/test.hpp"

// A machine of its own for a node or a server, as far as its network goes: a network namespace with one link
// to this one, that can be cut. Its packets are lost then, and neither side is told.
namespace kindred::test {

inline bool run_quietly(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

/// Can this process make network namespaces? (root, and iproute2)
inline bool can_make_networks() {
  const std::string name = "kn_try_" + std::to_string(::getpid());
  const bool made = run_quietly("ip netns add " + name + " && ip netns exec " + name + " true");
  (void)run_quietly("ip netns del " + name);
  return made;
}

class Network {
 public:
  /// `number`: 1 to 250, of its own in this process.
  explicit Network(int number) : number_{number} {
    const std::string id = std::to_string(::getpid() % 100'000) + "_" + std::to_string(number);
    name_ = "kn_" + id;
    here_ = "kh" + id;
    const std::string there = "kt" + id;
    REQUIRE(run_quietly("ip netns add " + name_));
    REQUIRE(run_quietly("ip link add " + here_ + " type veth peer name " + there));
    REQUIRE(run_quietly("ip link set " + there + " netns " + name_));
    REQUIRE(run_quietly("ip addr add " + address(1) + "/30 dev " + here_));
    REQUIRE(run_quietly("ip link set " + here_ + " up"));
    REQUIRE(run_quietly("ip netns exec " + name_ + " ip addr add " + address(2) + "/30 dev " + there));
    REQUIRE(run_quietly("ip netns exec " + name_ + " ip link set " + there + " up"));
    REQUIRE(run_quietly("ip netns exec " + name_ + " ip link set lo up"));
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  ~Network() {
    (void)run_quietly("ip link del " + here_);
    (void)run_quietly("ip netns del " + name_);
  }
  /// The address of this side, as the other one sees it.
  [[nodiscard]] std::string address() const { return address(1); }
  [[nodiscard]] std::string address_there() const { return address(2); }
  [[nodiscard]] const std::string& name() const { return name_; }
  void cut() { REQUIRE(run_quietly("ip link set " + here_ + " down")); }
  void mend() { REQUIRE(run_quietly("ip link set " + here_ + " up")); }

 private:
  [[nodiscard]] std::string address(int end) const {
    return "10." + std::to_string(100 + ::getpid() % 100) + "." + std::to_string(number_) + "." +
           std::to_string(end);
  }
  int number_;
  std::string name_;
  std::string here_;
};

/// First thing in a case.
#define KINDRED_NEEDS_NETWORKS()             \
  if (!::kindred::test::can_make_networks()) \
  KINDRED_SKIP("this process cannot make network namespaces (root, iproute2)")

}  // namespace kindred::test
