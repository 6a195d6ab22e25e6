#include "trial_process.hpp"

#include <sched.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <memory>

#include "child.hpp"

namespace kindred::internal {

// The program's own handling of SIGCHLD is not touched: this child sends no signal at its end.
int run_in_trial_process(int (*work)(void*), void* argument, int namespaces) {
  constexpr std::size_t stack_bytes = 256 * 1024;
  const auto stack = std::make_unique<std::byte[]>(stack_bytes);
  const SignalsBlocked blocked;
  const int pid = ::clone(work, stack.get() + stack_bytes, CLONE_VM | CLONE_VFORK | namespaces, argument);
  if (pid < 0) return errno;
  while (::waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {}
  return 0;
}

}  // namespace kindred::internal
