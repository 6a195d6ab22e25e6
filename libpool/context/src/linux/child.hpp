#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/worker_options.hpp"

// What a new process of the context does to itself, and the calls that make one. Linux only.
namespace kindred::internal {

/// Blocks all signals of this thread while it lives, so that no handler of the program runs in a child before
/// it is set up.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept;
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked();

 private:
  alignas(8) unsigned char saved_[128];
};

[[nodiscard]] std::pair<Descriptor, Descriptor>
make_pipe();  ///< read end, write end; both above stdio. Errors: `SystemError`

/// Opens /dev/null in the place of standard streams that are closed: else the next descriptor of ours would
/// have that number, and whatever the process writes to stderr would be written into it. Where no descriptor
/// is left, all stays as it is.
void keep_standard_places() noexcept;

/// fork(2) by the C library (so that atfork handlers and malloc's locks are right). Returns 0 in the child.
/// Errors: `SystemError`.
std::uint32_t fork_process();

// Of the child; all are async-signal-safe.
void reset_signals() noexcept;  ///< default actions, empty mask
void ignore_interrupts(
    bool also_terminate) noexcept;  ///< SIGINT (and SIGTERM, SIGHUP) are the parent's affair
/// Leads a session of its own, and so a group: neither it nor what its tasks start has a controlling
/// terminal, so that no terminal can stop them, and no system call takes this process out of the group again.
void lead_own_session() noexcept;
/// Asks the kernel to kill this process when the thread that started it ends. False: its process has ended.
bool die_with_starter(std::uint32_t parent) noexcept;
/// A thread that was in dl_iterate_phdr(3) when the program was forked has left the dynamic linker's lock
/// taken in the child for ever (glibc renews those of malloc, stdio and dlopen there, not this one). Returns
/// where it is free; where it is not, SIGALRM ends this process after a quarter of a second.
void prove_linker_is_free() noexcept;
void name_process(const char* name) noexcept;
/// Puts the two descriptors at their numbers, /dev/null at 0 (and at 1 and 2 where they are closed), and
/// closes all others.
bool take_places(int socket, int lifeline) noexcept;
/// Marks the two descriptors that came by exec: no program that a task executes inherits them again.
void close_places_at_exec() noexcept;
/// The same for a child that is about to execute the program: the rest is only marked close-on-exec.
/// Async-signal-safe.
bool take_places_for_exec(int socket, int lifeline) noexcept;
/// Asks the kernel to kill this process's group when the other end of the pipe closes, by whatever cause,
/// whatever this process does: stopped, spinning, with all signals blocked. Returns false where it has closed
/// already.
bool bind_to_lifeline(int lifeline) noexcept;
void be_continued_by_lifeline(
    int lifeline) noexcept;                  ///< SIGCONT instead, of a process that sees the end itself
[[noreturn]] void end_own_group() noexcept;  ///< SIGKILL, this process included
void discard_inherited_output() noexcept;    ///< what the parent had buffered in stdout and stderr is the
                                             ///< parent's to write
void flush_output() noexcept;
void unbuffer_output() noexcept;
void redirect(int from, int to) noexcept;  ///< dup2
[[nodiscard]] std::uint32_t parent_process_id() noexcept;
[[nodiscard]] bool same_program(
    std::uint32_t pid) noexcept;  ///< does it run the same file as this process, as far as this one may see?
[[nodiscard]] bool is_message_socket(int fd) noexcept;
void complain(const char* text) noexcept;  ///< to stderr, raw

/// Returns the environment of this process, which must not change meanwhile.
[[nodiscard]] std::vector<std::string> copy_environment();
[[nodiscard]] std::uint32_t file_mode_mask() noexcept;  ///< the umask, which stays as it is
/// Makes it the environment of this process, which has one thread. It must live as long.
void use_environment(const std::vector<std::string>& environment);

/// Errors: `UsageError`/`SystemError` that name the option and its value.
void apply_options(const WorkerOptions& options, const std::string& cwd, std::uint32_t umask);

/// Waits until one of the descriptors is readable (or closed); the mask of those that are is left in `ready`.
void wait_readable(const int* fds, bool* ready, std::size_t count, Deadline deadline) noexcept;

}  // namespace kindred::internal
