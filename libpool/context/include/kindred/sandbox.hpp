#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kindred {

/// What the worker processes of an executor may do to the rest of the machine: nothing, but for what is named
/// here. For code that must not be trusted: a plug-in, a parser of foreign files, a program that a user sent.
///
/// Set it as `WorkerOptions::sandbox`. The executor's constructor tries it out in a process of its own, so
/// what this kernel cannot give is an error there. A worker closes its sandbox before its first task, and
/// nothing opens it again: each later thread and process of the worker is inside.
///
/// A call that a sandboxed worker must not make at all (a signal to another process, ptrace, a socket) ends
/// the worker, and the task's `WorkerLost` names the call. A file that is not named gives the task EACCES,
/// and a change of modes, owners, times or priorities EPERM. Memory over `memory_bytes` is `std::bad_alloc`.
///
/// With a sandbox, stdout and stderr of the workers are captured into the log (as by
/// `WorkerOptions::capture_output`): the program's own terminal and files are out of reach. What remains
/// possible inside is listed in `libpool/doc/sandbox.md`.
struct Sandbox {
  /// Files, and folders with all below them, that may be read. They must exist. A relative path begins at the
  /// folder that the executor is made in.
  std::vector<std::string> read = {};
  /// As `read`, and files in them may be changed, made and removed. No symbolic links, sockets, FIFOs or
  /// devices can be made.
  std::vector<std::string> write = {};
  /// May it open IPv4 and IPv6 sockets? Local (Unix) sockets stay refused: they reach services that act for
  /// the user.
  bool network = false;
  /// May it start processes? They are inside the sandbox too, and end with the worker.
  bool processes = false;
  /// May it execute programs? They, their loader and libraries are to be named in `read`.
  bool exec = false;
  /// How many bytes of address space it may take beyond what it has when the sandbox closes; 0: no limit.
  std::uint64_t memory_bytes = 0;
  /// Close the sandbox after the initializer has run, instead of before: the initializer then is trusted, and
  /// may open files and connections that the tasks go on to use.
  bool after_initializer = false;
  /// Layers that may be missing where the kernel, or this build, has them not: "landlock" (files are then
  /// open to the worker), "seccomp" (system calls are then not filtered), "signal_scope" (with `processes`:
  /// processes of the worker may then signal the worker only). What is there is used all the same.
  std::vector<std::string> waive = {};

  /// Only computing: no files, no network, no processes.
  [[nodiscard]] static Sandbox compute();
  /// As `compute()`, and with these files to read and to write.
  [[nodiscard]] static Sandbox files(std::vector<std::string> read, std::vector<std::string> write = {});

  /// Errors: `UsageError` that names the option, its value and what to use. Asks the file system for the
  /// paths, and nothing else.
  void validate() const;
};

}  // namespace kindred
