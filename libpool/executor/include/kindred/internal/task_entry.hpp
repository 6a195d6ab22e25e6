#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/codec_task.hpp"
#include "kindred/internal/codec_type_name.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

/// Logs and ends a process that a task forked and that has returned from the task's function.
[[noreturn]] void leave_forked_child() noexcept;

/// A call as the worker's loop hands it to the typed code that knows its function.
struct TaskFrame {
  Decoder& arguments;
  Encoder& result;
  Worker& worker;
  const void* function;  ///< the address of the user's function in this process, for FunctionKind::pointer
  TaskPhase phase = TaskPhase::reading_arguments;
  ItemProgress* items = nullptr;         ///< where a map's chunk says how far it came; null: it is no chunk
  std::span<const std::byte> ring = {};  ///< memory that the parent can read after this process has died
  /// Sends the parent the block that begins with `results`, so that it can read that, too. Returns what
  /// `ItemProgress::at` says of the block; 0: it is no block that can be sent.
  std::int64_t (*send_block)(void* sender, const std::byte* results) noexcept = nullptr;
  void* sender = nullptr;
  std::uint32_t process = process_id();

  /// Call when the function has returned. A child that the function forked ends here: it is no
  /// worker, and must not write a result into the ring of the worker.
  void returned() {
    if (process != process_id()) [[unlikely]]
      leave_forked_child();
    phase = TaskPhase::writing_result;
  }
};

/// The attempt that the worker runs now.
[[nodiscard]] AttemptId running_attempt(const Worker& worker) noexcept;

/// The worker's half of one kind of call: made at compile time, named across processes by its own address.
struct EntryInfo {
  void (*run)(TaskFrame& frame);
  std::string_view name;  ///< of the function's type, for messages where the function has no symbol
  bool takes_worker;
  bool runs_items = false;  ///< a map's chunk
};

/// A function that is known at compile time: `submit<fn>(...)`.
template <auto function>
struct FunctionConstant {
  template <class... Args>
    requires std::is_invocable_v<decltype(function), Args...>
  decltype(auto) operator()(Args&&... args) const {
    return std::invoke(function, std::forward<Args>(args)...);
  }
};

/// Its parameters are those of the function, so that arguments are converted in the parent here too.
template <auto function>
struct Signature<FunctionConstant<function>> : Signature<std::remove_cv_t<decltype(function)>> {};

template <class F, class... Args>
struct EntryOf {
  using Types = TaskTypes<F, Args...>;
  using Result = typename Types::result_t;

  static void run(TaskFrame& frame) {
    if constexpr (Types::function == FunctionKind::pointer) {
      F function = reinterpret_cast<F>(const_cast<void*>(frame.function));
      run_function(frame, function);
    } else {
      F function = decode_function<F>(frame.arguments);
      run_function(frame, function);
    }
  }

  static void run_function(TaskFrame& frame, F& function) {
    typename Types::arguments_t arguments{frame.arguments};
    frame.phase = TaskPhase::running;
    if constexpr (std::is_void_v<Result>) {
      Types::call(function, frame.worker, arguments);
      frame.returned();
    } else {
      const Result result = Types::call(function, frame.worker, arguments);
      frame.returned();
      encode(frame.result, result);
    }
  }
};

template <class F, class... Args>
inline constexpr EntryInfo entry_info{&EntryOf<F, Args...>::run, type_name<F>(),
                                      TaskTypes<F, Args...>::takes_worker};

template <class F>
[[nodiscard]] const void* function_address([[maybe_unused]] const F& function) noexcept {
  if constexpr (std::is_pointer_v<F>)
    return reinterpret_cast<const void*>(function);
  else
    return nullptr;
}

template <class F, class... Args>
void encode_call(Encoder& encoder, [[maybe_unused]] const F& function, Args&&... args) {
  if constexpr (function_kind<F>() != FunctionKind::pointer) encode_function<F>(encoder, function);
  TaskTypes<F, Args...>::encode_arguments(encoder, std::forward<Args>(args)...);
}

}  // namespace kindred::internal
