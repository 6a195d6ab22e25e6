#pragma once

#include <exception>
#include <initializer_list>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>

#include "kindred/internal/log_call.hpp"
#include "kindred/key_value.hpp"
#include "kindred/level.hpp"

namespace kindred {

class Logger;

namespace internal {

/// The levelled calls, for `Logger` and `ExecutorLogger`. `Self` has `target()` and `enabled(LevelCode)`.
template <class Self>
class LogCalls {
 public:
  template <class... Args>
  void trace(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::trace, format, args...);
  }
  template <class... Args>
  void debug(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::debug, format, args...);
  }
  template <class... Args>
  void info(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::info, format, args...);
  }
  template <class... Args>
  void warn(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::warn, format, args...);
  }
  template <class... Args>
  void error(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::error, format, args...);
  }
  template <class... Args>
  void critical(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(Level::critical, format, args...);
  }
  /// With a level that is chosen at run time, or a custom one.
  template <class... Args>
  void log(LevelCode level, LogFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    call(level, format, args...);
  }
  /// For helpers that log on behalf of their caller: the record names `where`, not this line.
  template <class... Args>
  void log_at(LevelCode level, std::source_location where, LogFormat<std::type_identity_t<Args>...> format,
              Args&&... args) const {
    format.where = where;
    call(level, format, args...);
  }

 private:
  template <class... Args>
  void call(LevelCode level, CallSite site, Args&... args) const {
    const auto& self = static_cast<const Self&>(*this);
    if (!self.enabled(level)) return;
    write_call(self.target(), level, site, args...);
  }
};

struct LoggerAccess;

}  // namespace internal

/// Where a part of a program logs. A small value: copy it, keep it in a global or a member.
///
///     static const kindred::Logger log{"net.http"};
///     log.info("{} {} took {} us", method, path, micros);
///
/// A logger that is made from a name belongs to the process, not to an executor: its records go where those
/// of the free calls go (in a worker to its executor's log, in the parent to that of the only live executor,
/// else to stderr). `executor.logger().with(...)` and `.named(...)` give one that is bound to that executor's
/// log.
///
/// Arguments are copied into the record as they are (bool, char, integers, float, double, strings, `void*`)
/// and formatted by the collector; any other type that fmt can format, and formats with a width from an
/// argument, are formatted here, which costs some hundred nanoseconds more. Key-values (`kv`) may follow the
/// arguments of the format. Arguments of a disabled level are not formatted, but evaluated; the macros
/// `KINDRED_LOG_DEBUG(...)` do not evaluate them.
///
/// Errors: none of the calls throws, but for a bound logger used where it does not belong (another process):
/// `UsageError`. Blocks: as `LogOptions::when_full` says, only while this thread's lane is full. Threads: any
/// thread; also initializers, finalizers, static destructors. Not from signal handlers: `log_from_signal` is
/// for those. Fork: value.
class Logger : public internal::LogCalls<Logger> {
 public:
  /// The process's own, without a name.
  Logger() noexcept = default;
  /// One with a name; levels and filters go by it: see `set_level(name, level)`. `.`, `/` and `:` separate
  /// its parts.
  explicit Logger(std::string_view name);

  /// Returns the same logger with fields that each of its records will carry, added to those that it has.
  [[nodiscard]] Logger with(std::initializer_list<LogField> fields) const;
  /// Returns the same logger under another name.
  [[nodiscard]] Logger named(std::string_view name) const;
  [[nodiscard]] std::string_view name() const noexcept;
  /// Would a call of this level be logged now?
  [[nodiscard]] bool enabled(LevelCode level) const noexcept {
    if (front_ != nullptr) [[unlikely]]
      return bound_enabled(level);
    const bool passes = internal::level_passes(
        internal::process_log.levels.load(std::memory_order_relaxed)->load(std::memory_order_relaxed),
        level.base());
    return binding_ == nullptr || binding_->name.empty()
               ? passes
               : internal::binding_enabled(internal::process_log.front.load(std::memory_order_acquire),
                                           *binding_, level.base());
  }
  [[nodiscard]] internal::LogTarget target() const {
    if (front_ != nullptr) [[unlikely]]
      return bound_target();
    return {internal::process_log.front.load(std::memory_order_acquire), binding_.get()};
  }

 private:
  friend struct internal::LoggerAccess;
  [[nodiscard]] bool bound_enabled(LevelCode level) const noexcept;
  [[nodiscard]] internal::LogTarget bound_target() const;

  std::shared_ptr<const internal::Binding> binding_;
  internal::LogFront* front_ = nullptr;  ///< only where it is bound
  std::shared_ptr<internal::ContextLife> life_;
};

/// The logger of that name.
[[nodiscard]] inline Logger get_logger(std::string_view name) { return Logger{name}; }

}  // namespace kindred
