#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <cxxabi.h>

#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/task_entry.hpp"

// A map's chunk as a call: items in, results out.
//
//     call:    [function, where it has a state] [count] item item ...
//     result:  [count of results] [failed: 1 byte] result result ... [error, where failed]
//
// A map that goes on after errors frames both, so that one which cannot be read does not take the next with
// it: an item is [bytes] [arguments], a result is [2 * bytes + failed] [value or error].

namespace kindred::internal {

/// Bytes of a chunk's result before its first item's.
inline constexpr std::size_t chunk_head_bytes = sizeof(std::uint64_t) + sizeof(std::uint8_t);

/// Says, in memory that outlives the worker, how many items are done and where their results are: see
/// `ItemProgress`. Costs one store per item; two stores and a check where results differ in size.
///
/// `fixed`: all results have `each` bytes, and the encoder has room for all of them: they stay where they
/// are.
template <bool fixed>
class ItemTracker {
 public:
  ItemTracker(TaskFrame& frame, AttemptId attempt, std::size_t each) noexcept
      : words_{*frame.items}, out_{frame.result}, frame_{frame} {
    words_.done.store(0, std::memory_order_relaxed);
    words_.kept.store(ItemProgress::all, std::memory_order_relaxed);
    words_.each.store(each, std::memory_order_relaxed);
    words_.kept_bytes.store(out_.size(), std::memory_order_relaxed);
    moved(0);
    // Crash: before this store nothing is known of the chunk, and none of its items has begun.
    words_.attempt.store(attempt, std::memory_order_release);
  }

  /// Call when the result of the item number `done - 1` is written whole.
  void item_done(std::uint64_t done) noexcept {
    if constexpr (!fixed) {
      if (out_.written().data() != begin_ || !out_.attachments().empty()) [[unlikely]]
        moved(done - 1);
      if (kept_) words_.kept_bytes.store(out_.size(), std::memory_order_relaxed);
    }
    // Order: release, pairs with the acquire in read_items_left: the results are there before the count.
    words_.done.store(done, std::memory_order_release);
  }

 private:
  // The results are in other memory now. They are kept while the parent can read it; shared memories that
  // travel with them die with the worker.
  void moved(std::uint64_t done) noexcept {
    begin_ = out_.written().data();
    if (!kept_) return;
    if (out_.attachments().empty()) {
      const bool in_ring = begin_ >= frame_.ring.data() && begin_ < frame_.ring.data() + frame_.ring.size();
      const std::int64_t at = in_ring ? begin_ - reinterpret_cast<const std::byte*>(&words_)
                                      : frame_.send_block(frame_.sender, begin_);
      // Crash: before this store the results that were there before the move are read where they were.
      if (at != 0) return words_.at.store(at, std::memory_order_relaxed);
    }
    kept_ = false;
    words_.kept.store(done, std::memory_order_relaxed);
  }

  ItemProgress& words_;
  Encoder& out_;
  const TaskFrame& frame_;
  const std::byte* begin_ = nullptr;
  bool kept_ = true;
};

template <class T>
struct AllArithmetic : std::false_type {};
template <class... T>
struct AllArithmetic<std::tuple<T...>> : std::bool_constant<(std::is_arithmetic_v<T> && ...)> {};

template <bool keeps, class F, class... Args>
struct ChunkEntry {
  using Types = TaskTypes<F, Args...>;
  using Result = typename Types::result_t;
  using arguments_t = typename Types::arguments_t;
  using sent_arguments_t = typename Types::sent_arguments_t;
  using sent_tuple = typename Types::sent_tuple;
  /// Are the results numbers, one after another?
  static constexpr bool fixed_size = !keeps && std::is_arithmetic_v<Result> && !std::is_same_v<Result, bool>;
  /// Are the items numbers of the type that the function takes, written as they stand in memory?
  static constexpr bool bare_items =
      !keeps && AllArithmetic<std::tuple<Args...>>::value && std::is_same_v<sent_tuple, std::tuple<Args...>>;

  // --- the parent's side

  /// Writes one item's arguments. `fetching` is set to false at once: what is thrown then was not the
  /// input's.
  static void encode_item(Encoder& encoder, bool& fetching, std::add_rvalue_reference_t<Args>... items) {
    fetching = false;
    const FramedItem frame{encoder};
    Types::encode_arguments(encoder, std::forward<Args>(items)...);
    frame.end(encoder);
  }
  /// Passes over one item.
  static void skip_item(Decoder& decoder) {
    if constexpr (keeps)
      (void)decoder.take(decoder.template read_value<std::uint64_t>());
    else [[maybe_unused]]
      const sent_arguments_t arguments{decoder};
  }
  /// Reads one item, and writes it anew, with the shared memories that belong to it and no others.
  static void copy_item(Decoder& decoder, Encoder& encoder) {
    if constexpr (keeps) (void)decoder.template read_value<std::uint64_t>();
    sent_arguments_t arguments{decoder};
    const FramedItem frame{encoder};
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (encode(encoder, static_cast<Held<I, std::tuple_element_t<I, sent_tuple>>&>(arguments).value), ...);
    }(std::index_sequence_for<Args...>{});
    frame.end(encoder);
  }

  // --- the worker's side

  static void run(TaskFrame& frame) {
    if constexpr (Types::function == FunctionKind::pointer) {
      F function = reinterpret_cast<F>(const_cast<void*>(frame.function));
      run_items(frame, function);
    } else {
      F function = decode_function<F>(frame.arguments);
      run_items(frame, function);
    }
  }

  static void run_items(TaskFrame& frame, F& function) {
    const auto count = frame.arguments.template read_value<std::uint64_t>();
    const std::size_t head = frame.result.size();
    frame.result.write_value(std::uint64_t{0});
    frame.result.write_value(std::uint8_t{0});
    if constexpr (fixed_size) frame.result.reserve(static_cast<std::size_t>(count) * sizeof(Result));
    ItemTracker<fixed_size> tracker{frame, running_attempt(frame.worker), fixed_size ? sizeof(Result) : 0};
    if constexpr (plain_items) frame.phase = TaskPhase::running;
    std::uint64_t done = 0;
    for (; done < count; tracker.item_done(++done)) {
      [[maybe_unused]] const std::size_t before = fixed_size ? 0 : frame.result.size();
      [[maybe_unused]] const std::size_t left = keeps ? frame.arguments.left() : 0;
      try {
        if constexpr (keeps)
          run_framed(frame, function);
        else
          run_item(frame, function);
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (const ThrowWitness&) {  // never: it notes the stack
        throw;
      } catch (...) {
        frame.result.truncate(
            fixed_size ? head + chunk_head_bytes + static_cast<std::size_t>(done) * sizeof(Result) : before);
        if constexpr (keeps) {
          write_failed_item(frame, left);
        } else {
          const std::uint8_t failed = 1;
          frame.result.patch(head + sizeof done, &failed, sizeof failed);
          encode_exception(frame.result, std::current_exception(), frame.phase);
          break;
        }
      }
    }
    const std::uint64_t results = done;  // a copy: the counter itself stays in a register
    frame.result.patch(head, &results, sizeof results);
  }

 private:
  // Numbers in, a number out: neither reading nor writing can fail but for want of bytes.
  static constexpr bool plain_items = fixed_size && AllArithmetic<sent_tuple>::value;

  // The length that stands before each item of a map that goes on after errors.
  struct FramedItem {
    std::size_t at = 0;
    explicit FramedItem(Encoder& encoder) {
      if constexpr (keeps) {
        at = encoder.size();
        encoder.write_value(std::uint64_t{0});
      }
    }
    void end(Encoder& encoder) const noexcept {
      if constexpr (keeps) {
        const std::uint64_t bytes = encoder.size() - at - sizeof bytes;
        encoder.patch(at, &bytes, sizeof bytes);
      }
    }
  };

  // In the loop itself: a call of its own would cost as much as the rest of a small item.
  [[gnu::always_inline]] static void run_item(TaskFrame& frame, F& function) {
    if constexpr (!plain_items) frame.phase = TaskPhase::reading_arguments;
    arguments_t arguments{frame.arguments};
    if constexpr (!plain_items) frame.phase = TaskPhase::running;
    if constexpr (std::is_void_v<Result>) {
      Types::call(function, frame.worker, arguments);
    } else {
      const Result result = Types::call(function, frame.worker, arguments);
      if constexpr (!plain_items) frame.phase = TaskPhase::writing_result;
      if constexpr (fixed_size)
        frame.result.write_reserved(&result, sizeof result);  // as the codec writes numbers
      else
        encode(frame.result, result);
    }
  }

  static void run_framed(TaskFrame& frame, F& function) {
    (void)frame.arguments.template read_value<std::uint64_t>();
    const std::size_t at = frame.result.size();
    frame.result.write_value(std::uint64_t{0});
    run_item(frame, function);
    end_result(frame.result, at, false);
  }

  static void end_result(Encoder& out, std::size_t at, bool failed) noexcept {
    const std::uint64_t word = 2 * (out.size() - at - sizeof(std::uint64_t)) + (failed ? 1 : 0);
    out.patch(at, &word, sizeof word);
  }

  // In a handler. `left`: bytes of the call before the item, which begins with its length.
  static void write_failed_item(TaskFrame& frame, std::size_t left) {
    const std::size_t at = frame.result.size();
    frame.result.write_value(std::uint64_t{0});
    encode_exception(frame.result, std::current_exception(), frame.phase);
    end_result(frame.result, at, true);
    frame.arguments.rewind(left);
    skip_item(frame.arguments);
  }
};

template <bool keeps, class F, class... Args>
inline constexpr EntryInfo chunk_entry_info{&ChunkEntry<keeps, F, Args...>::run, type_name<F>(),
                                            TaskTypes<F, Args...>::takes_worker, true};

}  // namespace kindred::internal
