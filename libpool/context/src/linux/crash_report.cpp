#include "kindred/internal/crash_report.hpp"

#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "kindred/exit_reason.hpp"
#include "kindred/internal/sandbox_plan.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/stack_text.hpp"

namespace kindred::internal {
namespace {

constexpr std::int64_t max_system_calls = 4096;
constexpr int system_call_refused = 1;  // SYS_SECCOMP (linux/signal.h)
constexpr std::array crash_signals{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

// What the handler needs, prepared while there is time. Process-wide, as signal handlers are.
struct Prepared {
  CrashPage* page = nullptr;
  const std::atomic<AttemptId>* attempt = nullptr;
  struct Range {
    std::uintptr_t begin, end, base;
    std::uint64_t index;
  };
  std::array<Range, 128> ranges{};
  std::atomic<std::size_t> count = 0;
  pid_t pid = 0;  ///< of the worker: what a task forks writes nothing into its page
};
Prepared prepared;

std::uintptr_t stack_pointer(const void* context) noexcept {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(machine.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return static_cast<std::uintptr_t>(machine.sp);
#else
  return 0;
#endif
}

// One row of /proc/self/maps: "begin-end perms offset device inode   name".
bool is_read_only_array(std::string_view row, std::uintptr_t address) noexcept {
  std::uintptr_t bounds[2]{};
  std::size_t at = 0;
  for (std::uintptr_t& bound : bounds) {
    for (; at < row.size() && row[at] != '-' && row[at] != ' '; ++at) {
      const char digit = row[at];
      bound = bound * 16 + static_cast<std::uintptr_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    ++at;
  }
  return address >= bounds[0] && address < bounds[1] && at + 1 < row.size() && row[at] == 'r' &&
         row[at + 1] == '-' && row.find("memfd:kindred-array") != std::string_view::npos;
}

// Async-signal-safe, and in little memory: the alternative stack is small.
bool lies_in_read_only_array(std::uintptr_t address) noexcept {
  const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::array<char, 2048> buffer;
  std::size_t filled = 0;
  bool found = false;
  for (;;) {
    const auto got = ::read(fd, buffer.data() + filled, buffer.size() - filled);
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
    std::string_view rest{buffer.data(), filled};
    for (auto end = rest.find('\n'); end != std::string_view::npos && !found; end = rest.find('\n')) {
      found = is_read_only_array(rest.substr(0, end), address);
      rest.remove_prefix(end + 1);
    }
    if (found || rest.size() == buffer.size()) break;  // a row longer than that is no array's
    std::memmove(buffer.data(), rest.data(), rest.size());
    filled = rest.size();
  }
  ::close(fd);
  return found;
}

CrashCause cause_of(int number, const siginfo_t& info, const void* context) noexcept {
  if (number != SIGSEGV) return CrashCause::unknown;
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  const auto stack = stack_pointer(context);
  // A frame is written from the stack pointer on, or (by a call, or a probe of a large frame) below it.
  constexpr std::uintptr_t frame_below = std::uintptr_t{1} << 18U;
  constexpr std::uintptr_t frame_above = std::uintptr_t{1} << 16U;
  if (info.si_code > 0 && stack != 0 && address >= stack - frame_below && address < stack + frame_above)
    return CrashCause::stack_overflow;
  if (info.si_code == SEGV_ACCERR && lies_in_read_only_array(address)) return CrashCause::read_only_array;
  return CrashCause::unknown;
}

// Inlined, so that two frames lie before that of the program: the handler's, and the step into it.
// Async-signal-safe. `load_unwinder` was called before, so that it loads nothing now.
[[gnu::always_inline]] inline void write_report(CrashPage& page, int number, std::uint64_t address,
                                                std::int64_t system_call, std::uint32_t state) {
  page.signal = static_cast<std::uint32_t>(number);
  page.address = address;
  page.task_id = task_of(prepared.attempt->load(std::memory_order_relaxed));
  page.system_call = system_call;
  page.thread = static_cast<std::uint32_t>(::syscall(SYS_gettid));
  // Crash: a second fault in here ends the process (the handler is reset): the report then has no frames,
  // but is complete up to here.
  page.frame_count = 0;
  page.cause = 0;
  page.state.store(state, std::memory_order_release);
  std::array<void*, CrashPage::frames_limit> frames{};
  const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  for (int i = 0; i < count; ++i)
    page.frames[i] =
        reference_in_parent(reinterpret_cast<std::uintptr_t>(frames[static_cast<std::size_t>(i)]));
  page.frame_count = static_cast<std::uint32_t>(count);
}

// A fork handler. What the program's thread does next ends the process by SIGSYS.
void on_fork() {
  CrashPage* const page = prepared.page;
  if (page == nullptr || prepared.pid != ::getpid() || page->state.load(std::memory_order_relaxed) != 0)
    return;
  write_report(*page, SIGSYS, 0, SYS_clone, CrashPage::expected);
}

void on_crash(int number, siginfo_t* info, void* context) {
  CrashPage* const page = prepared.page;
  if (page != nullptr && prepared.pid == ::getpid() &&
      page->state.load(std::memory_order_relaxed) != CrashPage::complete) {
    const std::int64_t call =
        number == SIGSYS && info->si_code == system_call_refused ? info->si_syscall : -1;
    write_report(*page, number, reinterpret_cast<std::uint64_t>(info->si_addr), call, CrashPage::complete);
    page->cause = static_cast<std::uint32_t>(cause_of(number, *info, context));
  }
  // SA_RESETHAND has put the default action back: it happens when the signal, raised anew, is delivered at
  // our return.
  // A refused system call would only return.
  if (info->si_code <= 0 || number == SIGABRT || number == SIGSYS) {
    ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), number);
  }
}

}  // namespace

CodeReference reference_in_parent(std::uintptr_t at) noexcept {
  const std::size_t count = prepared.count.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const auto& range = prepared.ranges[i];
    if (at >= range.begin && at < range.end)
      return (range.index + 1) << code_module_shift | (at - range.base);
  }
  return at & 0xffff'ffff'ffffU;
}

void note_modules(const std::vector<Module>& modules) {
  std::size_t count = 0;
  prepared.count.store(0, std::memory_order_relaxed);  // a thread that crashes meanwhile writes addresses
  const auto mine = loaded_modules();
  for (std::size_t i = 0; i < mine.size() && count < prepared.ranges.size(); ++i) {
    for (std::size_t j = 0; j < modules.size(); ++j) {
      if ((i == 0) != (j == 0) || (i != 0 && mine[i].path != modules[j].path)) continue;
      prepared.ranges[count++] = {mine[i].begin, mine[i].end, mine[i].base, j};
      break;
    }
  }
  prepared.count.store(count, std::memory_order_release);
}

void load_unwinder() noexcept {
  std::array<void*, 4> frames{};
  (void)::backtrace(frames.data(), static_cast<int>(frames.size()));
}

void install_crash_handlers(std::span<std::byte> page, const std::atomic<std::uint64_t>& attempt,
                            const std::vector<Module>& modules) {
  static_assert(sizeof(CrashPage) <= 4096);
  prepared.page = reinterpret_cast<CrashPage*>(page.data());
  prepared.attempt = &attempt;
  prepared.pid = ::getpid();
  note_modules(modules);
  load_unwinder();

  constexpr std::size_t stack_bytes = 64 * 1024;
  void* const memory = ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;  // without it a crash is only reported by its signal
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = stack_bytes;
  ::sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  ::sigemptyset(&action.sa_mask);
  for (const int number : crash_signals) ::sigaction(number, &action, nullptr);
}

void report_forks_beforehand() noexcept { ::pthread_atfork(on_fork, nullptr, nullptr); }

CrashReport read_crash_report(std::span<const std::byte> bytes, const CodeBook& code) {
  const auto* const page = reinterpret_cast<const CrashPage*>(bytes.data());
  CrashReport report;
  const std::uint32_t state = page->state.load(std::memory_order_acquire);
  if (state != CrashPage::complete && state != CrashPage::expected) return report;
  const std::uint32_t number = page->signal;
  const std::uint64_t address = page->address;
  const std::size_t count = std::min<std::size_t>(page->frame_count, CrashPage::frames_limit);
  std::array<char, 64> place{};
  std::snprintf(place.data(), place.size(), "0x%llx", static_cast<unsigned long long>(address));
  report.summary = signal_name(static_cast<int>(number & 0x7fU));
  if (number == SIGSYS) {
    const std::int64_t call = page->system_call;
    if (call >= 0 && call <= max_system_calls) report.system_call = static_cast<int>(call);
  }
  if (report.system_call >= 0) {
    report.summary += ": bad system call `" + system_call_name(report.system_call) + "`";
  } else if (number != SIGABRT) {
    report.summary += std::string{" at address "} + place.data();
  }
  switch (static_cast<CrashCause>(page->cause)) {
    case CrashCause::stack_overflow:
      report.summary += " (stack overflow)";
      report.explanation =
          "Its stack overflowed: end the recursion, keep large objects on the heap, or raise the limit (ulimit -s).";
      break;
    case CrashCause::read_only_array:
      report.summary += " (a write to a read-only SharedArray)";
      report.explanation =
          "It wrote to a SharedArray that only the process which made it may write: make it with ArrayAccess::all_write "
          "(make_array<T>(size, kindred::ArrayAccess::all_write)), or return the new values.";
      break;
    default: break;  // the page is the worker's word
  }
  if (number == SIGBUS)
    report.explanation =
        "Memory behind the address is gone: a mapped file was cut short, or the file system or huge pages ran out.";
  // The first two are our handler, and the kernel's step into it.
  std::vector<CodeReference> frames;
  for (std::size_t i = 2; i < count; ++i) {
    const CodeReference reference = page->frames[i];
    // A return address is behind its call, which may be the last instruction of the function.
    frames.push_back(i == 2 || (reference & 0xffff'ffff'ffffU) == 0 ? reference : reference - 1);
  }
  report.frames = name_frames(frames, code);
  return report;
}

}  // namespace kindred::internal
