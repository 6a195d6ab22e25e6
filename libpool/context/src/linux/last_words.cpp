#include "kindred/internal/last_words.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>

namespace kindred::internal {
namespace {

// Process-wide, as signal handlers are.
constinit std::atomic<std::uint64_t> hangups{0};
struct sigaction before_hangup;

void on_hangup(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  hangups.fetch_add(1, std::memory_order_relaxed);
  if ((before_hangup.sa_flags & SA_SIGINFO) != 0)
    before_hangup.sa_sigaction(signal, info, context);
  else if (before_hangup.sa_handler != SIG_DFL && before_hangup.sa_handler != SIG_IGN)
    before_hangup.sa_handler(signal);
  errno = saved;
}

struct Fatal {
  int signal;
  const char* name;
  bool
      is_fault;  ///< a program that handles it wants to know; of the others it is enough that it handles them
};
constexpr std::array<Fatal, 10> fatal_signals{{{SIGSEGV, "SIGSEGV", true},
                                               {SIGBUS, "SIGBUS", true},
                                               {SIGFPE, "SIGFPE", true},
                                               {SIGILL, "SIGILL", true},
                                               {SIGSYS, "SIGSYS", true},
                                               {SIGABRT, "SIGABRT", true},
                                               {SIGTERM, "SIGTERM", false},
                                               {SIGINT, "SIGINT", false},
                                               {SIGHUP, "SIGHUP", false},
                                               {SIGQUIT, "SIGQUIT", false}}};
std::array<struct sigaction, fatal_signals.size()> before_fatal;
constinit std::atomic<void (*)(int) noexcept> speak_before{nullptr};
constinit std::atomic<pid_t> owner{0};
constinit std::atomic<bool> spoken{false};

void on_fatal(int signal, siginfo_t* info, void*) {
  const int saved = errno;
  const bool here = ::getpid() == owner.load(std::memory_order_relaxed);
  if (here && !spoken.exchange(true)) speak_before.load(std::memory_order_relaxed)(signal);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
    if (fatal_signals[i].signal == signal) ::sigaction(signal, &before_fatal[i], nullptr);
  }
  // A fault that the processor raised comes again by itself when this returns, with its address; another
  // signal is sent again, to this thread.
  const bool comes_again = info->si_code > 0 && signal != SIGABRT && signal != SIGSYS;
  if (!comes_again) {
    sigset_t one;
    ::sigemptyset(&one);
    ::sigaddset(&one, signal);
    ::raise(signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  }
  errno = saved;
}

}  // namespace

const std::atomic<std::uint64_t>& watch_hangups() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_sigaction = on_hangup;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGHUP, nullptr, &before_hangup);  // the handler may run as soon as it is set
    ::sigaction(SIGHUP, &action, nullptr);
  });
  return hangups;
}

void call_before_fatal_signals(void (*speak)(int signal) noexcept) noexcept {
  void (*none)(int) noexcept = nullptr;
  if (!speak_before.compare_exchange_strong(none, speak)) return;
  owner.store(::getpid(), std::memory_order_relaxed);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
    ::sigaction(fatal_signals[i].signal, nullptr, &before_fatal[i]);
    const bool by_default =
        (before_fatal[i].sa_flags & SA_SIGINFO) == 0 && before_fatal[i].sa_handler == SIG_DFL;
    if (!fatal_signals[i].is_fault && !by_default) continue;
    struct sigaction action{};
    action.sa_sigaction = on_fatal;
    // On the thread's alternate stack where it has one: a stack that overflowed has no room for words.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(fatal_signals[i].signal, &action, nullptr);
  }
}

const char* fatal_signal_name(int signal) noexcept {
  for (const Fatal& one : fatal_signals) {
    if (one.signal == signal) return one.name;
  }
  return "a signal";
}

}  // namespace kindred::internal
