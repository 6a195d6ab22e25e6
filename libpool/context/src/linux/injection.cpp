#include "kindred/internal/injection.hpp"

#if defined(KINDRED_INJECTION)

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "kindred/internal/futex.hpp"

namespace kindred::internal {

constinit InjectionControl* injection_control = nullptr;

InjectionControl* map_injection(const char* path) noexcept {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* const memory = ::mmap(nullptr, sizeof(InjectionControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<InjectionControl*>(memory);
}

namespace {

[[gnu::constructor]] void begin_where_asked() noexcept {
  if (const char* const path = std::getenv("KINDRED_INJECTION")) injection_control = map_injection(path);
}

void note_reached(InjectionControl& control, const char* name) noexcept {
  // The first thread writes the name; the others wait until it is written, or take another place. A process
  // killed in between leaves a hole.
  const auto known = control.points.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < known && i < InjectionControl::max_points; ++i) {
    if (control.reached[i].known.load(std::memory_order_acquire) != 0 &&
        std::strncmp(control.reached[i].name, name, InjectionControl::name_bytes) == 0)
      return;
  }
  const auto at = control.points.fetch_add(1, std::memory_order_acq_rel);
  if (at >= InjectionControl::max_points) return;
  std::strncpy(control.reached[at].name, name, InjectionControl::name_bytes - 1);
  control.reached[at].known.store(1, std::memory_order_release);
}

// Is it this one, here and now?
bool strikes(InjectionControl& control, const char* name) noexcept {
  note_reached(control, name);
  if (control.armed.load(std::memory_order_acquire) == 0 ||
      std::strncmp(control.name, name, InjectionControl::name_bytes) != 0)
    return false;
  const bool deadly = control.action == InjectedAction::kill || control.action == InjectedAction::stop;
  if (deadly && static_cast<std::uint32_t>(::getpid()) == control.parent_pid) return false;
  return control.hits.fetch_add(1, std::memory_order_acq_rel) + 1 == control.hit;
}

void say_fired(InjectionControl& control) noexcept {
  control.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  control.fired.fetch_add(1, std::memory_order_release);
  futex_wake(control.fired, 1);
}

}  // namespace

void reach_injection_point(const char* name) noexcept {
  InjectionControl& control = *injection_control;
  if (control.armed.load(std::memory_order_relaxed) == InjectionControl::quiet) {
    if (static_cast<std::uint32_t>(::getpid()) == control.pid.load(std::memory_order_relaxed))
      control.passed.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const int saved = errno;
  if (strikes(control, name)) {
    say_fired(control);
    switch (control.action.load(std::memory_order_relaxed)) {
      case InjectedAction::kill: ::kill(::getpid(), SIGKILL); break;
      case InjectedAction::stop: ::kill(::getpid(), SIGSTOP); break;
      case InjectedAction::sleep: {
        const timespec time{.tv_sec = control.value / 1000,
                            .tv_nsec = static_cast<long>(control.value % 1000) * 1'000'000};
        ::nanosleep(&time, nullptr);
        break;
      }
      default: break;
    }
  }
  errno = saved;
}

bool reach_failing_point(const char* name) noexcept {
  InjectionControl& control = *injection_control;
  if (!strikes(control, name) || control.action.load(std::memory_order_relaxed) != InjectedAction::fail)
    return false;
  say_fired(control);
  errno = static_cast<int>(control.value);
  return true;
}

}  // namespace kindred::internal

#endif
