#pragma once

#include <string_view>

namespace kindred {

/// How an executor starts its workers. The meanings are those of Python's `multiprocessing`.
///
/// * `fork`: workers are copies of the process as it was in the executor's constructor.
/// * `spawn`: each worker is the program itself, executed anew. Nothing is inherited but what is passed.
/// * `forkserver`: one clean server is executed from the program, and workers are forked from it.
enum class StartMethod : unsigned char { fork, spawn, forkserver };

/// Returns the enumerator's name, a string constant.
[[nodiscard]] std::string_view to_string(StartMethod method) noexcept;

/// Reads `fork`, `spawn` or `forkserver`, in lower case. Errors: `UsageError` that quotes any other text and
/// lists the three.
[[nodiscard]] StartMethod parse_start_method(std::string_view text);

/// Returns the start method of executors whose program chose none: the one that the environment variable
/// KINDRED_START_METHOD names, else `forkserver`. Errors: `UsageError` where it holds another word.
[[nodiscard]] StartMethod default_start_method();

}  // namespace kindred
