#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "kindred/codec.hpp"
#include "kindred/count.hpp"
#include "kindred/error.hpp"
#include "kindred/future.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/internal/task_entry.hpp"

namespace kindred {

/// How `map` works. An aggregate for designated initialisers.
struct MapOptions {
  /// Items per task; 0: adapted while it runs, so that a task takes some 50 microseconds. Negative:
  /// `UsageError`.
  Count chunk_size = 0;
  /// Most items that are fetched from the input and not yet taken from the output; 0: enough to keep all
  /// workers busy. With n, at most n items are fetched before the first result is taken, and one more for
  /// each taken.
  Count buffer_size = 0;
  /// For the whole map, counted from the call; over it the loop throws `TimeoutError`, and what has not begun
  /// is cancelled.
  std::optional<std::chrono::nanoseconds> timeout = {};
  /// Results in the order of the items; false: as they come.
  bool ordered = true;
  /// Called in the iterating thread with (results taken so far, items fetched so far), after each result.
  std::function<void(std::size_t, std::size_t)> progress = {};
};

namespace internal {

/// The call that a map's chunk is: items in, results out, and where one throws, the results before it and its
/// error.
template <class F, class... Args>
struct ChunkEntry {
  using Types = TaskTypes<F, Args...>;
  using Result = typename Types::result_t;

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
    std::uint64_t done = 0;
    frame.result.write_value(done);
    frame.result.write_value(std::uint8_t{0});
    for (; done < count; ++done) {
      const std::size_t before = frame.result.size();
      try {
        frame.phase = TaskPhase::reading_arguments;
        typename Types::arguments_t arguments{frame.arguments};
        frame.phase = TaskPhase::running;
        if constexpr (std::is_void_v<Result>) {
          Types::call(function, frame.worker, arguments);
        } else {
          const Result result = Types::call(function, frame.worker, arguments);
          frame.phase = TaskPhase::writing_result;
          encode(frame.result, result);
        }
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (const ThrowWitness&) {  // never: it notes the stack
        throw;
      } catch (...) {
        frame.result.truncate(before);
        const std::uint8_t failed = 1;
        frame.result.patch(head + sizeof done, &failed, sizeof failed);
        encode_exception(frame.result, std::current_exception(), frame.phase);
        break;
      }
    }
    frame.result.patch(head, &done, sizeof done);
  }
};

template <class F, class... Args>
inline constexpr EntryInfo chunk_entry_info{&ChunkEntry<F, Args...>::run, type_name<F>(),
                                            TaskTypes<F, Args...>::takes_worker};

[[nodiscard]] TaskFacts facts_of_task(FutureState& state);
[[nodiscard]] double run_seconds(
    FutureState& state) noexcept;  ///< how long a finished task ran in its worker
[[nodiscard]] std::size_t pool_workers(PoolCore& pool) noexcept;
void require_open(PoolCore& pool);

/// Keeps a pool's core, so that what outlives the executor finds it shut down and not gone.
class PoolReference {
 public:
  explicit PoolReference(PoolCore& pool) noexcept;
  PoolReference(PoolReference&& other) noexcept : pool_{std::exchange(other.pool_, nullptr)} {}
  PoolReference& operator=(PoolReference&&) = delete;
  ~PoolReference();
  [[nodiscard]] PoolCore& operator*() const noexcept { return *pool_; }

 private:
  PoolCore* pool_;
};

/// What a range's items are, as arguments of a call: the value where an iterator gives a stand-in for it
/// (`std::vector<bool>`).
template <class Iterator>
struct MappedItem {
  using type = std::decay_t<decltype(*std::declval<Iterator&>())>;
};
template <class Iterator>
  requires(std::is_class_v<std::decay_t<decltype(*std::declval<Iterator&>())>> &&
           !std::is_reference_v<decltype(*std::declval<Iterator&>())> &&
           requires { typename std::iterator_traits<Iterator>::value_type; } &&
           std::is_convertible_v<decltype(*std::declval<Iterator&>()),
                                 typename std::iterator_traits<Iterator>::value_type>)
struct MappedItem<Iterator> {
  using type = typename std::iterator_traits<Iterator>::value_type;
};
template <class Range>
using mapped_item_t = typename MappedItem<decltype(std::begin(std::declval<Range&>()))>::type;

}  // namespace internal

/// What `ProcessPoolExecutor::map` returns: a lazy input range of results. Items are fetched from the inputs
/// and submitted while results are taken. Destroyed early, it cancels what has not begun. Moves, does not
/// copy. One thread at a time.
///
/// Which worker runs an item is not promised (in particular not item i by worker i mod n): whoever is free
/// takes it. What must stay in one process belongs into `Worker::state`, loaded where it is missing, or into
/// a pool of one worker.
///
/// Errors, from the loop: what an item threw (the results before it were given; the loop ends there and the
/// rest is cancelled), `TimeoutError`, and what `Future::get` throws.
template <class F, class... Ranges>
class [[nodiscard]] MapRange {
  using Cursor = std::tuple<decltype(std::begin(std::declval<Ranges&>()))...>;
  using Entry = internal::ChunkEntry<F, internal::mapped_item_t<Ranges>...>;
  using Result = typename Entry::Result;
  using Stored = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;

 public:
  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Stored;
    using difference_type = std::ptrdiff_t;
    Stored& operator*() const { return range_->at_ != nullptr ? *range_->at_ : *range_->current_; }
    Stored* operator->() const { return &**this; }
    Iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { range_->advance(); }
    bool operator==(std::default_sentinel_t) const noexcept {
      return range_->at_ == nullptr && !range_->current_;
    }

   private:
    explicit Iterator(MapRange* range) noexcept : range_{range} {}
    MapRange* range_;
    friend class MapRange;
  };

  template <class... Given>
  MapRange(internal::PoolCore& pool, F function, MapOptions options, Given&&... ranges)
      : pool_{pool},
        function_{std::move(function)},
        options_{std::move(options)},
        ranges_{std::make_unique<std::tuple<Ranges...>>(std::forward<Given>(ranges)...)} {
    if (options_.chunk_size.value() < 0) {
      throw UsageError{"MapOptions::chunk_size is " + std::to_string(options_.chunk_size.value()) +
                       ". Use 1 or more, or 0 for a size that adapts."};
    }
    if (options_.buffer_size.value() < 0) {
      throw UsageError{"MapOptions::buffer_size is " + std::to_string(options_.buffer_size.value()) +
                       ". Use 1 or more, or 0 for one that suits the pool."};
    }
    if (options_.timeout && options_.timeout->count() < 0) {
      throw UsageError{"MapOptions::timeout is " + std::to_string(options_.timeout->count()) +
                       " ns. Use 0 or more, or none."};
    }
    internal::require_open(pool);
    deadline_ = internal::to_deadline(options_.timeout);
    chunk_ = options_.chunk_size == 0 ? 1 : static_cast<std::size_t>(options_.chunk_size.value());
    std::apply([&](auto&... each) { cursor_.emplace(std::begin(each)...); }, *ranges_);
    fetch();
  }
  MapRange(MapRange&&) noexcept = default;
  /// `std::views` ask for it, of a range that they are to own: `pool.map(...) | std::views::take(3)`.
  MapRange& operator=(MapRange&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      std::construct_at(this, std::move(other));
    }
    return *this;
  }
  ~MapRange() { cancel_rest(); }

  Iterator begin() {
    if (!begun_) {
      begun_ = true;
      advance();
    }
    return Iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  struct Chunk {
    internal::StateHandle state;
    std::size_t items = 0;
  };
  // The chunk whose results are being given, one after another.
  struct Reading {
    Chunk chunk;
    std::optional<internal::Decoder> decoder;
    std::uint64_t left = 0;
    bool failed = false;
  };

  bool at_end() {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return ((std::get<I>(*cursor_) == std::end(std::get<I>(*ranges_))) || ...);
    }(std::index_sequence_for<Ranges...>{});
  }

  [[nodiscard]] std::size_t buffer() const noexcept {
    if (options_.buffer_size.value() > 0) return static_cast<std::size_t>(options_.buffer_size.value());
    return 4 * internal::pool_workers(*pool_) * std::max<std::size_t>(chunk_, 1);
  }

  // Items that were fetched and whose results were not taken yet stay within the buffer.
  void fetch() {
    while (!exhausted_ && fetched_ - taken_ < buffer()) {
      const std::size_t room = buffer() - (fetched_ - taken_);
      if (options_.buffer_size == 0 && room < chunk_ && !chunks_.empty()) return;
      submit_chunk(std::min(chunk_, room));
    }
  }

  void submit_chunk(std::size_t most) {
    if (at_end()) {
      exhausted_ = true;
      return;
    }
    internal::Submission submission{*pool_};
    internal::Encoder& encoder = submission.encoder();
    std::uint64_t count = 0;
    try {
      if constexpr (Entry::Types::function != internal::FunctionKind::pointer)
        internal::encode_function<F>(encoder, function_);
      const std::size_t head = encoder.size();
      encoder.write_value(count);
      encoder.reserve(std::min<std::size_t>(
          most * item_bytes_,
          std::size_t{1} << 20U));  // room as the last chunk took it, instead of growing into it
      while (count < most && !at_end()) {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
          Entry::Types::encode_arguments(encoder, internal::mapped_item_t<Ranges>(*std::get<I>(*cursor_))...);
          (++std::get<I>(*cursor_), ...);
        }(std::index_sequence_for<Ranges...>{});
        ++count;
        ++fetched_;
      }
      encoder.patch(head, &count, sizeof count);
      if (count != 0) item_bytes_ = (encoder.size() - head) / count + 1;
    } catch (...) {
      exhausted_ = true;
      submission.arguments_failed();
      count = std::max<std::uint64_t>(count, 1);
    }
    auto state = submission.submit(internal::chunk_entry_info<F, internal::mapped_item_t<Ranges>...>,
                                   internal::function_address(function_), nullptr);
    chunks_.push_back({std::move(state), static_cast<std::size_t>(count)});
  }

  // The chunk whose results are given next: the first, or (unordered) any that is finished.
  std::size_t wait_for_chunk() {
    if (options_.ordered || chunks_.size() == 1) {
      if (!chunks_.front().state->wait(deadline_)) throw_timeout();
      return 0;
    }
    for (;;) {
      for (std::size_t i = 0; i < chunks_.size(); ++i) {
        if (chunks_[i].state->finished()) return i;
      }
      std::vector<internal::FutureState*> states;
      for (auto& chunk : chunks_) states.push_back(chunk.state.get());
      internal::wait_for_states(states, ReturnWhen::first_completed, deadline_);
      bool any = false;
      for (auto* state : states) any = any || state->finished();
      if (!any) throw_timeout();
    }
  }

  [[noreturn]] void throw_timeout() {
    cancel_rest();
    throw TimeoutError{
        "the map's timeout of " + std::to_string(std::chrono::duration<double>(*options_.timeout).count()) +
        " s passed after " + std::to_string(given_) +
        " results. What had not begun was cancelled: raise MapOptions::timeout, or give it fewer items."};
  }

  void advance() {
    if (at_ != nullptr) {
      if (++at_ != batch_end_) return;
      at_ = nullptr;
    }
    if (current_) {
      current_.reset();
      ++given_;
      ++taken_;
      if (options_.progress) options_.progress(given_, fetched_);
      if (options_.buffer_size.value() > 0) fetch();  // one more for each that is taken
    }
    while (!reading_ || reading_->left == 0) {
      if (reading_) end_chunk();
      if (failure_) {
        cancel_rest();
        std::rethrow_exception(std::exchange(failure_, nullptr));
      }
      if (!exhausted_) fetch();
      if (chunks_.empty()) return;
      begin_chunk(wait_for_chunk());
      if (at_ != nullptr) return;
    }
    --reading_->left;
    try {
      if constexpr (std::is_void_v<Result>)
        current_.emplace();
      else
        current_.emplace(internal::decode<Result>(*reading_->decoder));
    } catch (...) {
      unreadable();
    }
    if (!current_) advance();
  }

  void begin_chunk(std::size_t index) {
    reading_ = std::make_unique<Reading>();
    reading_->chunk = std::move(chunks_[index]);
    chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(index));
    auto& state = *reading_->chunk.state.get();
    try {
      state.require_value();
      const internal::ValueBytes value = internal::value_bytes(state);
      auto& decoder = reading_->decoder.emplace(value.context, value.bytes, value.attachments);
      reading_->left = decoder.template read_value<std::uint64_t>();
      reading_->failed = decoder.template read_value<std::uint8_t>() != 0;
      if (reading_->left > reading_->chunk.items)
        throw internal::DecodeError{"a chunk has more results than items"};
      if (options_.chunk_size == 0 && !reading_->failed) adapt(reading_->chunk);
      take_at_once();
    } catch (...) {
      unreadable();
    }
  }

  // Numbers are taken out of their chunk together, where nobody is to be told of each: one after another they
  // would cost three times as much.
  void take_at_once() {
    if constexpr (std::is_arithmetic_v<Result> && !std::is_same_v<Result, bool>) {
      if (options_.progress || options_.buffer_size.value() > 0 || reading_->left == 0) return;
      batch_.resize(reading_->left);
      reading_->decoder->read(batch_.data(),
                              batch_.size() * sizeof(Result));  // as the codec writes them, one after another
      taken_ += batch_.size();
      given_ += batch_.size();
      reading_->left = 0;
      at_ = batch_.data();
      batch_end_ = at_ + batch_.size();
    }
  }

  // Its results were given; what stands behind them is what ended it early.
  void end_chunk() {
    if (reading_->failed) {
      try {
        failure_ = internal::decode_exception(*reading_->decoder,
                                              internal::facts_of_task(*reading_->chunk.state.get()));
      } catch (...) {
        unreadable();
      }
      exhausted_ = true;
    }
    reading_.reset();
  }

  // In a handler: the map ends with what was caught, once the results before it were given.
  void unreadable() {
    reading_->left = 0;
    reading_->failed = false;
    exhausted_ = true;
    try {
      throw;
    } catch (const internal::DecodeError&) {
      try {
        internal::throw_unreadable_result(*reading_->chunk.state.get());
      } catch (...) {
        failure_ = std::current_exception();
      }
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  // Towards 50 us of work in a chunk: the cost of a task is lost in it, and no worker waits long for the last
  // one.
  void adapt(const Chunk& chunk) {
    const double each = internal::run_seconds(*chunk.state.get()) / static_cast<double>(chunk.items);
    const double ideal = each <= 0 ? 65536.0 : 0.00005 / each;
    const double in_ring = 12.0 * 1024 /
                           static_cast<double>(std::max<std::size_t>(
                               item_bytes_, 1));  // larger ones travel in memory of their own
    chunk_ = static_cast<std::size_t>(
        std::clamp(std::min(ideal, in_ring), 1.0, std::min(65536.0, static_cast<double>(chunk_) * 8)));
  }

  void cancel_rest() noexcept {
    exhausted_ = true;
    for (auto& chunk : chunks_) {
      try {
        if (chunk.state) (void)chunk.state->cancel(Running::leave);
      } catch (const UsageError&) {  // in the child of a fork: all of it is the parent's
      }
    }
    chunks_.clear();
  }

  internal::PoolReference pool_;
  F function_;
  MapOptions options_;
  std::unique_ptr<std::tuple<Ranges...>>
      ranges_;  // apart, so that the cursors stay valid when the range is moved
  std::optional<Cursor> cursor_;
  internal::Deadline deadline_;
  std::size_t chunk_ = 1;
  std::size_t item_bytes_ = 0;  // that an item's arguments took, lately
  std::deque<Chunk> chunks_;
  std::unique_ptr<Reading> reading_;
  std::optional<Stored> current_;
  std::vector<std::conditional_t<std::is_arithmetic_v<Result> && !std::is_same_v<Result, bool>, Stored, char>>
      batch_;
  Stored* at_ = nullptr;  // in the batch; null: the result is `current_`
  Stored* batch_end_ = nullptr;
  std::exception_ptr failure_;
  std::size_t fetched_ = 0;
  std::size_t taken_ = 0;
  std::size_t given_ = 0;
  bool exhausted_ = false;
  bool begun_ = false;
};

}  // namespace kindred
