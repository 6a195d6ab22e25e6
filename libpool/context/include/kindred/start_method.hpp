#pragma once

#include <string_view>

namespace kindred {

/// How the workers of an executor come to be. The meanings are those of Python's `multiprocessing`.
///
/// * `fork`: workers are copies of the process as it was in the executor's constructor.
/// * `spawn`: each worker is the program itself, executed anew. Nothing is inherited but what is passed.
/// * `forkserver`: one clean server is executed from the program, and workers are forked from it.
enum class StartMethod : unsigned char { fork, spawn, forkserver };

/// Returns the enumerator's name, a string that lives for ever.
[[nodiscard]] std::string_view to_string(StartMethod method) noexcept;

/// Reads `fork`, `spawn` or `forkserver`, exactly so. Errors: `UsageError` that quotes the text and lists the
/// three.
[[nodiscard]] StartMethod parse_start_method(std::string_view text);

/// What `ExecutorOptions::start_method` is where the program chose none: `KINDRED_START_METHOD`, or else
/// `forkserver`. Errors: `UsageError` where the variable holds another word.
[[nodiscard]] StartMethod default_start_method();

}  // namespace kindred
