#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <random>
#include <stdexcept>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/internal/bootstrap.hpp"

namespace kindred::test {

// Does one to three untidy things, and may end by the last one.
inline std::int64_t untidy(std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (auto left = 1 + random() % 3; left > 0; --left) {
    const int fd = static_cast<int>(3 + random() % 8);
    switch (random() % 14) {
      case 0: ::syscall(SYS_close_range, fd, ~0U, 0); break;
      case 1: ::close(fd); break;
      case 2:
        ::close(fd);
        (void)::open("/dev/null", O_RDWR);
        break;
      case 3:
        for (int each = 0; each < 16; ++each)
          ::fcntl(each, F_SETFL, random() % 2 == 0 ? 0 : O_NONBLOCK | O_ASYNC);
        break;
      case 4: {
        std::array<char, 256> bytes{};
        (void)::recv(kindred::internal::worker_fd::socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
        break;
      }
      case 5: {
        std::array<char, 64> bytes{};
        for (auto& byte : bytes) byte = static_cast<char>(random());
        (void)::send(kindred::internal::worker_fd::socket, bytes.data(), random() % bytes.size(),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      }
      case 6:
        if (::fork() == 0) return -1;
        break;
      case 7:
        if (::fork() == 0) throw std::runtime_error{"a child of a task"};
        break;
      case 8:
        if (::fork() == 0) {  // goes on beside its worker, and after it
          ::usleep(static_cast<useconds_t>(random() % 20'000));
          ::_exit(0);
        }
        break;
      case 9:
        (void)::setsid();
        (void)::setpgid(0, 0);
        std::signal(SIGTERM, SIG_IGN);
        break;
      case 10:
        if (random() % 4 == 0) ::raise(SIGSTOP);
        break;
      case 11:
        if (random() % 2 == 0) ::execlp("sleep", "sleep", "1000", nullptr);
        break;
      case 12: ::dup2(0, fd); break;
      default:
        if (random() % 4 == 0) ::raise(SIGKILL);
        if (random() % 4 == 0) ::_exit(75);
        break;
    }
  }
  return 7;
}

// Leaves a process that stays for ever, in a group of its own, or in a session of its own, or forked twice.
inline std::int64_t leave_a_process(std::uint64_t seed) {
  std::mt19937_64 random{seed};
  const auto how = random() % 3;
  if (::fork() == 0) {
    if (how == 0) ::setpgid(0, 0);
    if (how != 0) ::setsid();
    if (how == 2 && ::fork() != 0) ::_exit(0);
    ::syscall(SYS_close_range, 3, ~0U, 0);
    for (;;) ::pause();
  }
  return 7;
}

}  // namespace kindred::test
