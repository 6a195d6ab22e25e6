#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <system_error>

namespace kindred {

/// What the receiver of an error should do, which is why there are as many kinds as answers.
enum class ErrorKind : unsigned char {
  usage,         ///< the program must be changed: the message says where
  system,        ///< a system call failed: raise the limit that the message names, or try again
  task,          ///< the task threw: the fault is the task's
  worker_lost,   ///< the worker died: resubmit if the task is idempotent
  broken_pool,   ///< the pool gave up: make another one after the cause is mended
  task_timeout,  ///< the task ran longer than its `timeout`
  timeout,       ///< a wait of the caller's ended first; nothing happened to the task
  cancelled,     ///< the task was cancelled
  protocol       ///< a worker corrupted its shared memory and was killed
};

[[nodiscard]] std::string_view to_string(ErrorKind kind) noexcept;

/// Base of every error of kindred. Its message is a fact, the values, and how to mend it.
///
/// It is deliberately *not* derived from `std::exception`: each concrete error derives from it and from
/// exactly one standard exception, so that `catch (const kindred::Error&)` and `catch (const
/// std::exception&)` both match without ambiguity, also where a task's own `std::out_of_range` is rethrown
/// with kindred's facts attached.
class Error {
 public:
  virtual ~Error() = default;
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  /// Returns the whole message; the same text as `std::exception::what()` of the same object.
  [[nodiscard]] virtual const char* what() const noexcept = 0;

 protected:
  explicit Error(ErrorKind kind) noexcept : kind_{kind} {}
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;

 private:
  ErrorKind kind_;
};

/// The program uses kindred against its rules.
class UsageError : public Error, public std::exception {
 public:
  explicit UsageError(std::string message) : Error{ErrorKind::usage}, message_{std::move(message)} {}
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// A wait of the caller's own ended before what it waited for. The task goes on.
class TimeoutError : public Error, public std::exception {
 public:
  explicit TimeoutError(std::string message) : Error{ErrorKind::timeout}, message_{std::move(message)} {}
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// A system call failed. `call()` names it, `code()` is its errno, and the message says what can be done
/// about that errno of that call: which limit to raise, what to allow, what to free.
class SystemError : public Error, public std::system_error {
 public:
  /// `mend`: what to do, where the throwing code knows more than the call and its errno tell.
  SystemError(std::string call, int error_number, std::string_view while_doing, std::string_view mend = {});
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] const std::string& call() const noexcept { return call_; }

 private:
  std::string call_;
  std::string message_;
};

}  // namespace kindred
