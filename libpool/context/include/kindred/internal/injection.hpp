#pragma once

/// Named places in the protocol where a test makes something go wrong. An ordinary build has none: without
/// the CMake option KINDRED_INJECTION the macros are nothing.
///
///     KINDRED_INJECTION_POINT("worker.result.before_publish");                        // the process may be
///     killed or stopped here, or sleep const int fd = KINDRED_INJECTION_FAILS("fail.memfd") ? -1 :
///     ::memfd_create(...)  // the call may fail, with errno set
///
/// The first word says which process comes by: worker, server, parent; log (any that logs), gate, fail.
/// `tests/crash/injection_test.cpp` reads the names out of the sources, tries each, and fails where one is
/// never reached.
#if defined(KINDRED_INJECTION)

#include <atomic>
#include <cstdint>

namespace kindred::internal {

enum class InjectedAction : std::uint32_t { none, kill, stop, sleep, fail };

/// What a test asks for and what came of it, in a file that it and all processes below it map:
/// KINDRED_INJECTION names it.
struct InjectionControl {
  static constexpr std::uint32_t name_bytes = 64;
  static constexpr std::uint32_t max_points = 256;
  static constexpr std::uint32_t quiet = 2;

  std::uint32_t parent_pid;  ///< is never killed or stopped
  std::atomic<std::uint32_t>
      armed;  ///< 1: `name`, `action` and `hit` hold; `quiet`: points are passed in no time
  char name[name_bytes];
  std::atomic<InjectedAction> action;
  std::uint32_t hit;                  ///< at the so-manieth time
  std::uint32_t value;                ///< milliseconds, or the errno
  std::atomic<std::uint32_t> hits;    ///< of the point named
  std::atomic<std::uint32_t> fired;   ///< raised when it happens; a futex
  std::atomic<std::uint32_t> pid;     ///< whom it happened to
  std::atomic<std::uint32_t> passed;  ///< points that `pid` came by while it was quiet
  std::atomic<std::uint32_t> points;  ///< of these, in the order in which they were reached first
  struct Point {
    std::atomic<std::uint32_t> known;
    char name[name_bytes];
  } reached[max_points];
};

/// Null: no test asks. Set before main where the variable is set, and by `map_injection`.
extern InjectionControl* injection_control;
InjectionControl* map_injection(const char* path) noexcept;

/// Async-signal-safe.
void reach_injection_point(const char* name) noexcept;
bool reach_failing_point(const char* name) noexcept;

}  // namespace kindred::internal

#define KINDRED_INJECTION_POINT(name)                                                                   \
  (::kindred::internal::injection_control != nullptr ? ::kindred::internal::reach_injection_point(name) \
                                                     : static_cast<void>(0))
#define KINDRED_INJECTION_FAILS(name) \
  (::kindred::internal::injection_control != nullptr && ::kindred::internal::reach_failing_point(name))

#else

#define KINDRED_INJECTION_POINT(name) static_cast<void>(0)
#define KINDRED_INJECTION_FAILS(name) false

#endif
