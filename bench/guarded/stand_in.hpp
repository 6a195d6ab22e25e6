#pragma once

#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>

#include "kindred/start_method.hpp"

namespace bench {

/// Ends the program without its destructors: they would wait for deaths that no stand-in tells of. The
/// workers die with their parent.
[[noreturn]] inline void leave() { std::_Exit(0); }

}  // namespace bench

// An executor looks at its construction whether the kernel has what it needs. valgrind 3.19 has not; this
// stands before the library's own.
namespace kindred::internal {
void require_kernel(StartMethod);
[[gnu::used]] inline void require_kernel(StartMethod) {}
}  // namespace kindred::internal

// valgrind 3.19 does not know pidfd_open. Nobody dies in these programs while instructions are counted, so a
// descriptor that never becomes readable stands in for a pidfd; every other call goes to the kernel as it is.
// Defined in the program, it takes precedence over libc's.
extern "C" inline __attribute__((used)) long syscall(long number, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, number);
  long given[6];
  for (long& argument : given) argument = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_pidfd_open) return eventfd(0, EFD_CLOEXEC);
  long result;
#if defined(__x86_64__)
  register long a4 asm("r10") = given[3];
  register long a5 asm("r8") = given[4];
  register long a6 asm("r9") = given[5];
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(given[0]), "S"(given[1]), "d"(given[2]), "r"(a4), "r"(a5), "r"(a6)
               : "rcx", "r11", "memory");
#else
#error "the guard counts on x86-64"
#endif
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}
