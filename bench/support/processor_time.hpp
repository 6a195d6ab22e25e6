#pragma once

#include <sys/resource.h>
#include <sys/time.h>

#include <ctime>

namespace bench {

/// The processor time in nanoseconds, in the program and in the kernel, of this process and of those of its
/// children that have ended and been reaped, with theirs. What still runs is not in it: end the pool first.
[[nodiscard]] inline double processor_ns() {
  double sum = 0;
  for (const auto of : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    ::getrusage(of, &usage);
    for (const timeval& time : {usage.ru_utime, usage.ru_stime})
      sum += static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
  }
  return sum;
}

/// The processor time of this thread alone.
[[nodiscard]] inline double thread_processor_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

}  // namespace bench
