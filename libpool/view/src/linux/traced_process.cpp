#include "linux/traced_process.hpp"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <fstream>
#include <thread>

#include "kindred/error.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::view {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_threads = 64;
constexpr auto stop_patience = 1s;
constexpr auto look_again = 200us;

}  // namespace

TracedProcess::TracedProcess(std::uint32_t pid) {
  auto names = internal::names_in_directory("/proc/" + std::to_string(pid) + "/task");
  std::vector<std::uint32_t> tids;
  for (const auto& name : names) {
    std::uint32_t tid = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), tid);
    if (read.ec == std::errc{} && read.ptr == name.data() + name.size()) tids.push_back(tid);
  }
  std::ranges::sort(tids);
  if (tids.size() > max_threads) tids.resize(max_threads);
  int error = ESRCH;
  for (const auto tid : tids) {
    if (::ptrace(PTRACE_SEIZE, static_cast<pid_t>(tid), nullptr, nullptr) != 0) {
      error = errno;
      if (error == ESRCH) continue;  // it has ended meanwhile
      break;
    }
    stop(tid);
  }
  if (!threads_.empty()) return;
  for (const auto tid : running_) ::ptrace(PTRACE_DETACH, static_cast<pid_t>(tid), nullptr, nullptr);
  throw SystemError{
      "ptrace", error, "reading the stacks of pid " + std::to_string(pid),
      "The kernel lets a process of the same user do so where kernel.yama.ptrace_scope is 0; else "
      "run this as root (CAP_SYS_PTRACE)."};
}

void TracedProcess::stop(std::uint32_t tid) {
  const auto id = static_cast<pid_t>(tid);
  const auto until = std::chrono::steady_clock::now() + stop_patience;
  if (::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr) == 0) {
    while (std::chrono::steady_clock::now() < until) {
      int status = 0;
      const pid_t got = ::waitpid(id, &status, __WALL | WNOHANG);
      if (got == id && WIFSTOPPED(status)) {
        threads_.push_back(tid);
        // Either this call stopped it, or a signal did, which it must get when it goes on.
        signals_.push_back((status >> 16) == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status));
        return;
      }
      if (got == id || (got < 0 && errno == ECHILD)) return;  // it has ended
      std::this_thread::sleep_for(look_again);
    }
  }
  running_.push_back(tid);
}

TracedProcess::~TracedProcess() {
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    ::ptrace(PTRACE_DETACH, static_cast<pid_t>(threads_[i]), nullptr,
             static_cast<std::uintptr_t>(signals_[i]));
  }
  // One that did not stop cannot be let go by a call; the kernel does it when this thread ends.
}

std::string thread_name(std::uint32_t pid, std::uint32_t tid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/comm"};
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace kindred::view
