#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kindred::view {

/// Stops the threads of another process for as long as this object lives, without a signal that the process
/// could see: no handler runs in it, and a system call that it waits in goes on where it was.
///
/// Threads: made, used and destroyed on one thread. The process must be one of this user, and the kernel must
/// allow it (kernel.yama.ptrace_scope).
class TracedProcess {
 public:
  /// Errors: `SystemError`.
  explicit TracedProcess(std::uint32_t pid);
  TracedProcess(const TracedProcess&) = delete;
  TracedProcess& operator=(const TracedProcess&) = delete;
  ~TracedProcess();
  /// The threads that stood still within a second after they were asked to stop.
  [[nodiscard]] const std::vector<std::uint32_t>& threads() const noexcept { return threads_; }

 private:
  void stop(std::uint32_t tid);
  std::vector<std::uint32_t> threads_;
  std::vector<int> signals_;            ///< for each thread, the signal that it gets when it goes on, or 0
  std::vector<std::uint32_t> running_;  ///< seized, and not stopped in time
};

/// The name of a thread, as /proc has it.
[[nodiscard]] std::string thread_name(std::uint32_t pid, std::uint32_t tid);

}  // namespace kindred::view
