#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/bench.hpp"

/// A nats-server and nodes on this machine's loopback, for as long as the object lives.
namespace bench {

class Started {
 public:
  explicit Started(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::posix_spawnp(&pid_, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0)
      fail("cannot start " + words[0]);
  }
  Started(Started&& other) noexcept : pid_{std::exchange(other.pid_, 0)} {}
  Started& operator=(Started&&) = delete;
  ~Started() { kill(SIGTERM); }
  void kill(int signal) {
    if (pid_ == 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

class ClusterMachines {
 public:
  ClusterMachines()
      : port_{free_port()},
        store_{std::filesystem::temp_directory_path() / ("kindred-bench-" + std::to_string(::getpid()))},
        server_{{"nats-server", "-a", "127.0.0.1", "-p", std::to_string(port_), "-js", "-sd", store_.string(),
                 "-l", "/dev/null"}} {
    for (int tries = 0; !answers(); ++tries) {
      if (tries == 1000) fail("nats-server does not answer (Debian: nats-server)");
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
  }
  ~ClusterMachines() {
    nodes.clear();
    server_.kill(SIGTERM);
    std::error_code ignored;
    std::filesystem::remove_all(store_, ignored);
  }
  [[nodiscard]] std::string url() const { return "nats://127.0.0.1:" + std::to_string(port_); }
  void start_node(const std::string& node_program, std::size_t workers) {
    nodes.emplace_back(std::vector<std::string>{
        node_program, "--cluster", "bench", "--servers", url(), "--name",
        std::string{"n"}.append(std::to_string(nodes.size())), "--workers", std::to_string(workers), "--",
        std::filesystem::read_symlink("/proc/self/exe").string()});
  }
  std::vector<Started> nodes;

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
  }
  static int free_port() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      fail("no port is free");
    ::close(fd);
    return ntohs(address.sin_port);
  }
  [[nodiscard]] bool answers() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port_);
    const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return connected;
  }
  int port_;
  std::filesystem::path store_;
  Started server_;
};

}  // namespace bench
