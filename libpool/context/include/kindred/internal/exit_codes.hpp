#pragma once

/// With which codes processes of kindred's own end: workers, fork servers, and a program after a Ctrl-C.
namespace kindred::internal::exit_code {

inline constexpr int done = 0;
inline constexpr int refused = 70;             ///< what looks like a worker's start is none
inline constexpr int not_set_up = 71;          ///< the worker could not be set up; the parent was told why
inline constexpr int initializer_failed = 72;  ///< the parent was told why
inline constexpr int corrupted = 74;           ///< the worker's own task wrote over its call ring
inline constexpr int not_executed = 127;       ///< the program could not be executed
inline constexpr int interrupted = 130;        ///< Ctrl-C, and all running tasks ended or a second one came

}  // namespace kindred::internal::exit_code
