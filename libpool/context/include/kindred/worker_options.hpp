#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kindred/sandbox.hpp"

namespace kindred {

/// How the worker processes of an executor are set up. Everything holds in the worker only; the parent is
/// unchanged. What is not said here (environment, folder, umask) is as it was in the program when the
/// executor was constructed, for all workers: also for one that takes the place of another later.
struct WorkerOptions {
  /// Variables set in the worker's environment (an empty optional removes one).
  std::map<std::string, std::optional<std::string>> env = {};
  /// The worker's environment is `env` and nothing else: what the program has (passwords, tokens) stays out
  /// of it. A worker that is executed then also lacks LD_LIBRARY_PATH, PATH, HOME and the like, unless `env`
  /// names them.
  bool clear_env = false;
  /// Working directory; empty: the parent's at the executor's construction.
  std::string cwd = {};
  /// Added to the parent's niceness, -20 to 19. Negative values need CAP_SYS_NICE.
  int nice = 0;
  /// CPUs that the worker may run on; empty: the parent's.
  std::vector<unsigned> cpu_affinity = {};
  /// Soft limits by RLIMIT number (RLIMIT_AS, RLIMIT_NOFILE ...): value in the limit's own unit.
  std::map<int, std::uint64_t> rlimits = {};
  /// Take what the worker writes to stdout and stderr into the log, as records with that origin.
  bool capture_output = false;
  /// May a worker load a shared library that a task's code is in and that it has not loaded (dlopen in the
  /// parent)? Its build id is checked.
  bool load_libraries = false;
  /// What the worker may do to the rest of the machine, for code that must not be trusted; nothing: all that
  /// the program may. See `Sandbox`.
  std::optional<Sandbox> sandbox = {};
};

}  // namespace kindred
