// Loaded in front of the C library: the wall clock steps by an hour, forth and back, all the time. Other
// clocks are as they are.
#include <atomic>

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static std::atomic<unsigned> calls{0};
  const long result = ::syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_REALTIME && result == 0) time->tv_sec += (calls.fetch_add(1) % 3) * 3600;
  return static_cast<int>(result);
}
