#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kindred/log_scope.hpp"
#include "kindred/logger.hpp"

namespace kindred {

// The free calls: the log of this process. In a worker that is its executor's; in any other process that of
// the only live executor, and stderr where there is none or more than one. Contract as `Logger`.

namespace internal {
[[nodiscard]] inline bool process_enabled(LevelCode level) noexcept {
  return level_passes(process_log.levels.load(std::memory_order_relaxed)->load(std::memory_order_relaxed),
                      level.base());
}
template <class... Args>
void log_to_process(LevelCode level, CallSite site, Args&... args) noexcept {
  if (process_enabled(level)) write_call(ProcessTarget{}, level, site, args...);
}
}  // namespace internal

template <class... Args>
void log_trace(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::trace, format, args...);
}
template <class... Args>
void log_debug(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::debug, format, args...);
}
template <class... Args>
void log_info(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::info, format, args...);
}
template <class... Args>
void log_warn(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::warn, format, args...);
}
template <class... Args>
void log_error(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::error, format, args...);
}
template <class... Args>
void log_critical(internal::LogFormat<std::type_identity_t<Args>...> format, Args&&... args) noexcept {
  internal::log_to_process(Level::critical, format, args...);
}
/// With a level that is chosen at run time, or a custom one.
template <class... Args>
void log(LevelCode level, internal::LogFormat<std::type_identity_t<Args>...> format,
         Args&&... args) noexcept {
  internal::log_to_process(level, format, args...);
}

/// Logs an exception with its type, its text and all its nested causes: "text: std::runtime_error: no file,
/// caused by ...". The record has the fields `exception` (type) and `what`.
void log_exception(LevelCode level, const std::exception_ptr& exception, std::string_view text = {},
                   std::source_location where = std::source_location::current()) noexcept;
/// The same through a logger.
void log_exception(const Logger& logger, LevelCode level, const std::exception_ptr& exception,
                   std::string_view text = {}, std::source_location where = std::source_location::current());

/// Logs `text` from a signal handler, as it stands: async-signal-safe, takes no lock, never waits. What finds
/// no room, or interrupts another such call, is counted as dropped. The record has no place in the code and
/// no fields. In a process without a log the text goes to stderr.
///
/// Blocks: never. Threads: any, in a handler or not. Fork: any process.
void log_from_signal(Level level, std::string_view text) noexcept;

/// Calls `fn()`; what it throws is logged at level error and goes no further. Returns what `fn` returned, as
/// an optional; for a function that returns nothing, whether it came to its end.
template <class F>
auto catch_and_log(F&& fn, std::string_view text = {}, LevelCode level = Level::error,
                   std::source_location where = std::source_location::current()) {
  using Result = std::invoke_result_t<F>;
  try {
    if constexpr (std::is_void_v<Result>) {
      std::invoke(std::forward<F>(fn));
      return true;
    } else {
      return std::optional<std::decay_t<Result>>{std::invoke(std::forward<F>(fn))};
    }
  } catch (...) {
    log_exception(level, std::current_exception(), text, where);
  }
  if constexpr (std::is_void_v<Result>)
    return false;
  else
    return std::optional<std::decay_t<Result>>{};
}

}  // namespace kindred

// As the free calls, but the arguments of a disabled level are not even evaluated.
#define KINDRED_LOG_AT(level, ...)                                                       \
  do {                                                                                   \
    if (::kindred::internal::process_enabled(level)) ::kindred::log(level, __VA_ARGS__); \
  } while (false)
#define KINDRED_LOG_TRACE(...) KINDRED_LOG_AT(::kindred::Level::trace, __VA_ARGS__)
#define KINDRED_LOG_DEBUG(...) KINDRED_LOG_AT(::kindred::Level::debug, __VA_ARGS__)
#define KINDRED_LOG_INFO(...) KINDRED_LOG_AT(::kindred::Level::info, __VA_ARGS__)
#define KINDRED_LOG_WARN(...) KINDRED_LOG_AT(::kindred::Level::warn, __VA_ARGS__)
#define KINDRED_LOG_ERROR(...) KINDRED_LOG_AT(::kindred::Level::error, __VA_ARGS__)
#define KINDRED_LOG_CRITICAL(...) KINDRED_LOG_AT(::kindred::Level::critical, __VA_ARGS__)
