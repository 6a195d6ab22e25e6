#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "kindred/codec.hpp"
#include "kindred/error.hpp"
#include "kindred/exit_reason.hpp"

// What `Future::get` throws where there is no value, and how a program's own exceptions come through as
// themselves.

namespace kindred {

/// One exception of a chain that `std::throw_with_nested` made.
struct Cause {
  std::string type;  ///< the type's name, as in the program
  std::string what;  ///< its text, or the value of a thrown number or string

  friend bool operator==(const Cause&, const Cause&) = default;
};

/// What was being done when a task's exception was thrown.
enum class TaskPhase : unsigned char {
  writing_arguments,  ///< in the parent: the task was not sent
  reading_arguments,  ///< in the worker, before the function was called
  running,            ///< in the function
  writing_result,     ///< in the worker, after the function had returned
  reading_result      ///< in the parent
};

namespace internal {

class CodeBook;

/// Which task, where. As far as it is known.
struct TaskFacts {
  std::uint64_t task_id = 0;  ///< 0: none
  std::string task_name;      ///< may be empty
  int worker = -1;            ///< -1: none
  std::uint32_t pid = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 1;
  std::shared_ptr<const CodeBook> code =
      {};  ///< by which the worker's places in the code have names; null: they have none
  std::optional<std::uint64_t> item = {};  ///< of a map: its index in the input
};

/// The stack of a throw as it came from the worker; it gets its names when it is read.
class RemoteStack {
 public:
  RemoteStack(std::vector<std::uint64_t> frames, std::shared_ptr<const CodeBook> code);
  [[nodiscard]] const std::string& text() const;

 private:
  std::vector<std::uint64_t> frames_;
  std::shared_ptr<const CodeBook> code_;
  mutable std::once_flag named_;
  mutable std::string text_;
};

/// Returns "task 'area' #41", for an item of a map "task 'area' #41 (item 7)".
[[nodiscard]] std::string to_string(const TaskFacts& facts);

/// The same error of a map's item: a WorkerLost or TaskTimeout names it then; any other is returned as it is.
[[nodiscard]] std::exception_ptr name_item(const std::exception_ptr& error, std::uint64_t item);

/// The unchanging part of an error, shared by its copies: so that copying an exception object cannot throw.
struct TaskErrorDetails {
  TaskFacts facts;
  TaskPhase phase = TaskPhase::running;
  std::string type_name;
  std::string text;
  std::vector<Cause> causes;
  std::string message;
  std::shared_ptr<const RemoteStack> stack = {};
};

/// The facts that several errors tell in the same words.
class AboutTask {
 public:
  [[nodiscard]] std::uint64_t task_id() const noexcept { return facts_->task_id; }  ///< 0: no task
  [[nodiscard]] const std::string& task_name() const noexcept { return facts_->task_name; }
  [[nodiscard]] int worker() const noexcept { return facts_->worker; }      ///< index; -1: no worker had it
  [[nodiscard]] std::uint32_t pid() const noexcept { return facts_->pid; }  ///< of the worker; 0: none
  [[nodiscard]] std::uint32_t incarnation() const noexcept { return facts_->incarnation; }
  [[nodiscard]] std::uint32_t attempt() const noexcept { return facts_->attempt; }  ///< 1, more after a retry
  /// The index of the item that a `map` ran, counted from 0 in its input; none: the task was no map's.
  [[nodiscard]] std::optional<std::uint64_t> item() const noexcept { return facts_->item; }

 protected:
  explicit AboutTask(std::shared_ptr<const TaskFacts> facts) noexcept : facts_{std::move(facts)} {}

 private:
  friend std::exception_ptr name_item(const std::exception_ptr& error, std::uint64_t item);
  std::shared_ptr<const TaskFacts> facts_;
};

}  // namespace internal

/// The task threw, or its arguments or result could not be written or read.
///
/// What is thrown is a class that derives from this one and from the standard exception that the task's own
/// was or derived from: so `catch (const std::out_of_range&)`, `catch (const std::exception&)` and `catch
/// (const kindred::TaskError&)` each match. A nested exception
/// (`std::throw_with_nested`) is nested here too: `std::rethrow_if_nested` goes down the chain. A type that
/// was registered by `register_exception` is thrown as itself, and is a `TaskError` besides: then its own
/// `what()` is what it was in the worker, and the message is this class's.
class TaskError : public Error, public internal::AboutTask {
 public:
  TaskError(const TaskError&) = default;
  TaskError& operator=(const TaskError&) = default;
  ~TaskError() override;

  /// Returns the whole message: task, type, text, worker, causes, and how to mend it.
  [[nodiscard]] const char* what() const noexcept override { return details_->message.c_str(); }
  /// Returns the name of the type that was thrown, e.g. "std::out_of_range", "int".
  [[nodiscard]] const std::string& type_name() const noexcept { return details_->type_name; }
  /// Returns the text of what was thrown: its own `what()`, or the value of a number or string. May be empty.
  [[nodiscard]] const std::string& original_what() const noexcept { return details_->text; }
  /// Returns the exceptions nested in the one thrown, from the outside in.
  [[nodiscard]] const std::vector<Cause>& causes() const noexcept { return details_->causes; }
  [[nodiscard]] TaskPhase phase() const noexcept { return details_->phase; }
  /// Returns the stack in the worker that the exception was thrown on, a line a frame, innermost first, at
  /// most 32 of them; empty where none was noted: for what was thrown in the parent. An exception that was
  /// caught and thrown again on its way (`throw;`, `std::rethrow_exception`, from a coroutine) has the stack
  /// of the last time. The names are looked up at the first call, which takes milliseconds; a program that is
  /// stripped has offsets in their place.
  [[nodiscard]] const std::string& backtrace() const;

 protected:
  explicit TaskError(std::shared_ptr<const internal::TaskErrorDetails> details) noexcept;

 private:
  std::shared_ptr<const internal::TaskErrorDetails> details_;
};

/// The worker died while it ran the task. Nothing is known of how far the task came.
class WorkerLost : public Error, public std::exception, public internal::AboutTask {
 public:
  struct Details {
    ExitReason exit_reason;
    internal::TaskFacts task;
    std::vector<std::string> last_log_lines;
    std::string backtrace;
    std::string
        evidence;  ///< what else is known, in sentences: "The cgroup's OOM killer ran (oom_kill 3 -> 4)."
  };
  explicit WorkerLost(Details details);

  [[nodiscard]] const char* what() const noexcept override { return shared_->message.c_str(); }
  [[nodiscard]] const ExitReason& exit_reason() const noexcept { return shared_->details.exit_reason; }
  /// Returns what the worker logged last, oldest first: captured output too.
  [[nodiscard]] const std::vector<std::string>& last_log_lines() const noexcept {
    return shared_->details.last_log_lines;
  }
  /// Returns the stack at the crash, a line a frame; empty where none was written.
  [[nodiscard]] const std::string& backtrace() const noexcept { return shared_->details.backtrace; }

 private:
  struct Shared {
    Details details;
    std::string message;
  };
  WorkerLost(std::shared_ptr<const Shared> shared, const internal::TaskFacts& task);
  friend std::exception_ptr internal::name_item(const std::exception_ptr& error, std::uint64_t item);
  std::shared_ptr<const Shared> shared_;
};

/// The pool gave up: workers die faster than the restart limit allows, or an initializer failed. All its
/// futures end with this.
class BrokenProcessPool : public Error, public std::exception {
 public:
  /// args: why, one sentence; the error behind it, or null; the task that this future was for.
  explicit BrokenProcessPool(std::string_view why, std::exception_ptr cause = {},
                             const internal::TaskFacts& task = {});

  [[nodiscard]] const char* what() const noexcept override { return message_->c_str(); }
  /// Returns the error that broke the pool: what the initializer threw, how the last worker died; null where
  /// there is none.
  [[nodiscard]] const std::exception_ptr& cause() const noexcept { return cause_; }

 private:
  std::shared_ptr<const std::string> message_;
  std::exception_ptr cause_;
};

/// The task ran longer than its `TaskOptions::timeout`; its worker was killed.
class TaskTimeout : public Error, public std::exception, public internal::AboutTask {
 public:
  TaskTimeout(const internal::TaskFacts& task, std::chrono::nanoseconds limit,
              std::chrono::nanoseconds ran_for);

  [[nodiscard]] const char* what() const noexcept override { return message_->c_str(); }
  [[nodiscard]] std::chrono::nanoseconds limit() const noexcept { return limit_; }
  [[nodiscard]] std::chrono::nanoseconds ran_for() const noexcept { return ran_for_; }

 private:
  std::chrono::nanoseconds limit_;
  std::chrono::nanoseconds ran_for_;
  std::shared_ptr<const std::string> message_;
};

/// The task was cancelled.
class Cancelled : public Error, public std::exception, public internal::AboutTask {
 public:
  /// args: when or by what: "before it began", "while it ran: its worker was killed", "by shutdown".
  Cancelled(const internal::TaskFacts& task, std::string_view how);

  [[nodiscard]] const char* what() const noexcept override { return message_->c_str(); }

 private:
  std::shared_ptr<const std::string> message_;
};

// --- exceptions of the program's own

namespace internal {

/// A standard exception with kindred's facts.
template <class E>
class TaskErrorAs : public E, public TaskError {
 public:
  TaskErrorAs(const E& thrown, std::shared_ptr<const TaskErrorDetails> details)
      : E(thrown), TaskError{std::move(details)} {}
  [[nodiscard]] const char* what() const noexcept override { return TaskError::what(); }
};

struct NoException {};

/// A registered exception with kindred's facts. `what()` stays the class's own, which is what it was in the
/// worker.
template <class E, bool is_std_exception = std::is_base_of_v<std::exception, E>>
class RegisteredTaskError : public E, public TaskError {
 public:
  RegisteredTaskError(E thrown, std::shared_ptr<const TaskErrorDetails> details)
      : E(std::move(thrown)), TaskError{std::move(details)} {}
};
template <class E>
class RegisteredTaskError<E, false> : public E, public std::exception, public TaskError {
 public:
  RegisteredTaskError(E thrown, std::shared_ptr<const TaskErrorDetails> details)
      : E(std::move(thrown)), TaskError{std::move(details)} {}
  [[nodiscard]] const char* what() const noexcept override { return TaskError::what(); }
};

/// Adds what is being handled as the nested exception, for `std::rethrow_if_nested`.
template <class Thrown>
class WithCause : public Thrown, public std::nested_exception {
 public:
  explicit WithCause(Thrown thrown) : Thrown(std::move(thrown)) {}
};

struct ExceptionHandler {
  const std::type_info* type;
  /// Writes the exception object; false: it is none of this type. May throw.
  bool (*encode)(Encoder& encoder, const std::exception_ptr& exception);
  /// Throws what `encode` wrote, with the details, and with the exception being handled as its cause where
  /// `has_cause`. Sets `decoded` when the object was read, so that what is thrown then is it.
  void (*decode_and_throw)(Decoder& decoder, const std::shared_ptr<const TaskErrorDetails>& details,
                           bool has_cause, bool& decoded);
};
void add_exception_handler(const ExceptionHandler& handler);

template <class E>
struct RegisteredException {
  static bool encode(Encoder& encoder, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& thrown) {
      internal::encode(encoder, thrown);
      return true;
    } catch (...) {
      return false;
    }
  }

  static void decode_and_throw(Decoder& decoder, const std::shared_ptr<const TaskErrorDetails>& details,
                               [[maybe_unused]] bool has_cause, bool& decoded) {
    auto thrown = decode<E>(decoder);
    // The text of a standard base is no member that a `serialize` can reach: it is put back here.
    if constexpr (std::is_convertible_v<E*, std::runtime_error*>)
      static_cast<std::runtime_error&>(thrown) = std::runtime_error{details->text};
    if constexpr (std::is_convertible_v<E*, std::logic_error*>)
      static_cast<std::logic_error&>(thrown) = std::logic_error{details->text};
    if constexpr (std::is_final_v<E>) {
      decoded = true;
      throw std::move(thrown);
    } else {
      using Thrown = RegisteredTaskError<E>;
      if constexpr (!std::is_base_of_v<std::nested_exception, E>) {
        if (has_cause) {
          WithCause<Thrown> made{Thrown{std::move(thrown), details}};
          decoded = true;
          throw std::move(made);
        }
      }
      Thrown made{std::move(thrown), details};
      decoded = true;
      throw std::move(made);
    }
  }
};

}  // namespace internal

/// Lets exceptions of type `E` come out of a task as themselves, with their members: `catch (const E&)` in
/// the parent, which is a `TaskError` too. `E` needs what an argument needs (a cereal `serialize` and a
/// default constructor; nothing where it only adds a name to a standard exception). Where it cannot be read
/// back, a plain `TaskError` with its type and text comes instead.
///
/// It must have been registered in both processes, so do it at namespace scope, beside the class:
///
///     inline const bool my_error_registered = kindred::register_exception<MyError>();
///
/// Limits: a `final` class is thrown without kindred's facts, because nothing can derive from it. Threads:
/// any. Returns true.
template <class E>
bool register_exception() {
  static_assert(
      std::is_class_v<E>,
      "kindred::register_exception<E>: E must be a class; a thrown number or string is reported as a TaskError "
      "with its value");
  static_assert(
      !std::is_final_v<E> || std::is_convertible_v<E*, std::exception*>,
      "kindred::register_exception<E>: a final class must derive from std::exception, so that it can be caught as one");
  static_assert(
      !std::is_base_of_v<std::exception, E> || std::is_convertible_v<E*, std::exception*>,
      "kindred::register_exception<E>: E derives from std::exception twice, so that nobody can catch it as one");
  static_assert(
      !std::is_base_of_v<Error, E>,
      "kindred::register_exception<E>: kindred's own errors cannot come out of a task as themselves; they come as a TaskError that "
      "names them");
  if constexpr (internal::check_argument<E>()) {
    internal::add_exception_handler({&typeid(E), &internal::RegisteredException<E>::encode,
                                     &internal::RegisteredException<E>::decode_and_throw});
  }
  return true;
}

}  // namespace kindred
