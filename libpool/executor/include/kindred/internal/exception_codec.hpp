#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <type_traits>
#include <vector>

#include <cxxabi.h>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/codec_task.hpp"
#include "kindred/internal/throw_stack.hpp"
#include "kindred/task_error.hpp"

// How an exception comes from a task to the future's readers: it is described in the worker, the description
// travels, and each reader gets an object of its own made from it.

namespace kindred::internal {

/// The standard exceptions that a task's can be caught as, the most derived first.
enum class StandardException : std::uint8_t {
  filesystem_error,
  ios_failure,
  system_error,
  future_error,
  regex_error,
  out_of_range,
  length_error,
  domain_error,
  invalid_argument,
  logic_error,
  range_error,
  overflow_error,
  underflow_error,
  runtime_error,
  bad_array_new_length,
  bad_alloc,
  bad_any_cast,
  bad_cast,
  bad_typeid,
  bad_function_call,
  bad_optional_access,
  bad_variant_access,
  bad_weak_ptr,
  bad_exception,
  exception
};

/// An exception, without its object.
struct ExceptionDescription {
  /// One exception of the chain.
  struct Link {
    std::string type;
    std::string text;
    StandardException standard = StandardException::exception;
    std::int32_t code = 0;           ///< of system_error, future_error, regex_error and their kin
    std::uint8_t category = 0;       ///< of the code
    std::vector<std::string> paths;  ///< of filesystem_error
  };
  TaskPhase phase = TaskPhase::running;
  std::vector<Link> chain;        ///< what was thrown, then what is nested in it; never empty
  std::string registered;         ///< the registered type's mangled name; empty: none
  std::vector<std::byte> object;  ///< of the registered type
  std::vector<CodeReference>
      stack;  ///< that it was thrown on, the runtime's own frames first; empty: not noted
};

/// Describes an exception; null stands for one that C++ does not know (a foreign one). Long texts are cut at
/// 64 KiB, chains at 32. `context`: for which registered types are written.
[[nodiscard]] ExceptionDescription describe(const std::exception_ptr& exception, TaskPhase phase,
                                            ContextId context);

/// Makes an exception object: a new one at each call.
[[nodiscard]] std::exception_ptr make_exception(const ExceptionDescription& description,
                                                const TaskFacts& facts, ContextId context) noexcept;

/// Returns "std::out_of_range: vector::at", with what is nested in it, for messages and log lines.
[[nodiscard]] std::string describe_exception(const std::exception_ptr& exception);

/// Appends a description of `exception` with the stack that a `ThrowWitness` noted, or a short description if
/// memory is short. Errors: only if the encoder finds no room for 200 bytes.
void encode_exception(Encoder& encoder, const std::exception_ptr& exception, TaskPhase phase);
/// The same for a task that ended its thread: what `catch (abi::__forced_unwind&)` catches.
void encode_forced_unwind(Encoder& encoder);

/// Reads what `encode_exception` wrote. Errors: `DecodeError`.
[[nodiscard]] ExceptionDescription decode_description(Decoder& decoder);
/// Reads what `encode_exception` wrote, and makes the object. A message that cannot be read gives a
/// `TaskError` that says so.
[[nodiscard]] std::exception_ptr decode_exception(Decoder& decoder, const TaskFacts& facts) noexcept;

/// The error of a task whose arguments or result failed in this process: `original` is what was thrown.
[[nodiscard]] std::exception_ptr make_task_error(const std::exception_ptr& original, TaskPhase phase,
                                                 const TaskFacts& facts, ContextId context) noexcept;

/// How a task ended in the worker; the encoder then holds its result, or a description of what it threw.
enum class TaskEnd : std::uint8_t { value, failure };

/// Writes the failure being handled over a result begun at `start`. Call in a handler.
void replace_by_failure(Encoder& out, std::size_t start, std::size_t attachments, TaskPhase phase,
                        bool forced_unwind);

/// Runs a task in the worker: reads its arguments, calls it, writes its result, and where any of that throws,
/// writes what was thrown.
///
/// A task that ends its thread (pthread_exit, cancellation) cannot be kept from it: its failure is written,
/// `publish` is called to get it to the parent, and the unwinding goes on.
template <class Types, class F, class Publish>
// The forced unwind has no object: its handler gets a null reference, which UBSan takes for a fault. It has
// one check for null and alignment, and g++ 12 leaves that out of a template's functions only where neither
// is wanted.
__attribute__((no_sanitize("null", "alignment"))) TaskEnd run_task(F& function, Worker& worker, Decoder& in,
                                                                   Encoder& out, Publish&& publish) {
  const auto start = out.size();
  const auto attachments = out.attachments().size();
  auto phase = TaskPhase::reading_arguments;
  try {
    typename Types::arguments_t arguments{in};
    phase = TaskPhase::running;
    if constexpr (std::is_void_v<typename Types::result_t>) {
      Types::call(function, worker, arguments);
    } else {
      const typename Types::result_t result = Types::call(function, worker, arguments);
      phase = TaskPhase::writing_result;
      encode(out, result);
    }
    return TaskEnd::value;
  } catch (abi::__forced_unwind&) {
    replace_by_failure(out, start, attachments, phase, true);
    publish();
    throw;
  } catch (const ThrowWitness&) {  // never: it notes the stack
    throw;
  } catch (...) {
    replace_by_failure(out, start, attachments, phase, false);
    return TaskEnd::failure;
  }
}

}  // namespace kindred::internal
