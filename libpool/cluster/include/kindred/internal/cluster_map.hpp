#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <cxxabi.h>

#include "kindred/internal/cluster_core.hpp"
#include "kindred/map.hpp"

namespace kindred::internal {

/// The call that a chunk of a cluster's map is: a count and the arguments of so many items in; for each item
/// out whether it threw, and its value or its exception. It ends with the first that throws.
template <class F, class... Args>
struct ClusterChunk {
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
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::size_t before = frame.result.size();
      try {
        frame.phase = TaskPhase::reading_arguments;
        typename Types::arguments_t arguments{frame.arguments};
        frame.phase = TaskPhase::running;
        frame.result.write_value(std::uint8_t{0});
        if constexpr (std::is_void_v<Result>) {
          Types::call(function, frame.worker, arguments);
        } else {
          const Result result = Types::call(function, frame.worker, arguments);
          frame.phase = TaskPhase::writing_result;
          encode(frame.result, result);
        }
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (...) {
        frame.result.truncate(before);
        frame.result.write_value(std::uint8_t{1});
        encode_exception(frame.result, std::current_exception(), frame.phase);
        return;
      }
    }
  }
};

template <class F, class... Args>
inline constexpr EntryInfo cluster_chunk_info{&ClusterChunk<F, Args...>::run, type_name<F>(),
                                              TaskTypes<F, Args...>::takes_worker};

}  // namespace kindred::internal

namespace kindred {

/// What `ClusterExecutor::map` returns: as `MapRange`, a lazy input range of results. Items are fetched and
/// submitted in chunks while results are taken; destroyed early, it cancels what has not begun. Moves, does
/// not copy. One thread at a time.
///
/// Errors, from the loop: what an item threw (the results before it were given), `TimeoutError`, `NodeLost`
/// and what else `Future::get` throws.
template <class F, class... Ranges>
class [[nodiscard]] ClusterMapRange {
  using Cursor = std::tuple<decltype(std::begin(std::declval<Ranges&>()))...>;
  using Chunk = internal::ClusterChunk<F, internal::mapped_item_t<Ranges>...>;
  using Result = typename Chunk::Result;
  using Stored = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;

 public:
  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Stored;
    using difference_type = std::ptrdiff_t;
    Stored& operator*() const { return *range_->current_; }
    Stored* operator->() const { return &**this; }
    Iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { range_->advance(); }
    bool operator==(std::default_sentinel_t) const noexcept { return !range_->current_; }

   private:
    explicit Iterator(ClusterMapRange* range) noexcept : range_{range} {}
    ClusterMapRange* range_;
    friend class ClusterMapRange;
  };

  template <class... Given>
  ClusterMapRange(std::shared_ptr<internal::ClusterCore> core, F function, MapOptions options,
                  Given&&... ranges)
      : core_{std::move(core)},
        function_{std::move(function)},
        options_{std::move(options)},
        ranges_{std::make_unique<std::tuple<Ranges...>>(std::forward<Given>(ranges)...)} {
    internal::check_map_options(options_, false);
    item_options_ = internal::options_of_items(options_);
    chunk_options_ = internal::options_of_chunks(options_);
    if (options_.item_timeout) options_.chunk_size = 1;
    deadline_ = internal::to_deadline(options_.timeout);
    if (options_.chunk_size.value() > 0) chunk_ = static_cast<std::size_t>(options_.chunk_size.value());
    std::apply([&](auto&... each) { cursor_.emplace(std::begin(each)...); }, *ranges_);
    fetch();
  }
  ClusterMapRange(ClusterMapRange&&) noexcept = default;
  ClusterMapRange& operator=(ClusterMapRange&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      std::construct_at(this, std::move(other));
    }
    return *this;
  }
  ~ClusterMapRange() { cancel_rest(); }

  Iterator begin() {
    if (!std::exchange(begun_, true)) advance();
    return Iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  struct Sent {
    internal::StateHandle state;
    internal::RemoteBytes* bytes = nullptr;
    std::size_t items = 0;
  };

  bool at_end() {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return ((std::get<I>(*cursor_) == std::end(std::get<I>(*ranges_))) || ...);
    }(std::index_sequence_for<Ranges...>{});
  }

  [[nodiscard]] std::size_t buffer() const {
    if (options_.buffer_size.value() > 0) return static_cast<std::size_t>(options_.buffer_size.value());
    return 4 * std::max<std::size_t>(internal::cluster_workers(*core_), 2) * chunk_;
  }

  void fetch() {
    const std::size_t most = buffer();
    while (!exhausted_ && fetched_ - given_ < most)
      submit_chunk(std::min(chunk_, most - (fetched_ - given_)));
  }

  void submit_chunk(std::size_t most) {
    if (at_end()) {
      exhausted_ = true;
      return;
    }
    internal::ClusterSubmission submission{*core_};
    internal::Encoder& encoder = submission.encoder();
    std::uint64_t count = 0;
    try {
      if constexpr (Chunk::Types::function != internal::FunctionKind::pointer)
        internal::encode_function<F>(encoder, function_);
      const std::size_t head = encoder.size();
      encoder.write_value(count);
      for (; count < most && !at_end(); ++count) {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
          Chunk::Types::encode_arguments(encoder, internal::mapped_item_t<Ranges>(*std::get<I>(*cursor_))...);
          (++std::get<I>(*cursor_), ...);
        }(std::index_sequence_for<Ranges...>{});
        ++fetched_;
      }
      encoder.patch(head, &count, sizeof count);
    } catch (...) {
      exhausted_ = true;
      submission.arguments_failed();
    }
    auto* const bytes = new internal::RemoteBytes{core_};
    Sent sent{internal::StateHandle{bytes}, bytes, static_cast<std::size_t>(count)};
    (void)submission.submit(internal::cluster_chunk_info<F, internal::mapped_item_t<Ranges>...>,
                            internal::function_address(function_),
                            count == 1 ? item_options_.get() : chunk_options_.get(), sent.state, *bytes,
                            false);
    sent_.push_back(std::move(sent));
  }

  std::size_t wait_for_chunk() {
    if (options_.ordered) {
      if (!sent_.front().state->wait(deadline_)) throw_timeout();
      return 0;
    }
    for (;;) {
      std::vector<internal::FutureState*> states;
      for (std::size_t i = 0; i < sent_.size(); ++i) {
        if (sent_[i].state->finished()) return i;
        states.push_back(sent_[i].state.get());
      }
      internal::wait_for_states(states, ReturnWhen::first_completed, deadline_);
      if (std::ranges::none_of(states, [](const auto* state) { return state->finished(); })) throw_timeout();
    }
  }

  [[noreturn]] void throw_timeout() {
    cancel_rest();
    throw TimeoutError{"the map's timeout of " +
                       std::to_string(std::chrono::duration<double>(*options_.timeout).count()) +
                       " s passed after " + std::to_string(given_) +
                       " results. What had not begun was cancelled: raise MapOptions::timeout, or give it "
                       "fewer items."};
  }

  void advance() {
    if (current_) {
      current_.reset();
      ++given_;
      if (options_.progress) options_.progress(given_, fetched_);
    }
    while (left_ == 0) {
      decoder_.reset();
      fetch();
      if (sent_.empty()) return;
      begin_chunk(wait_for_chunk());
    }
    --left_;
    try {
      if (decoder_->template read_value<std::uint8_t>() != 0)
        std::rethrow_exception(internal::item_error(*decoder_, reading_.state->task_id()));
      if constexpr (std::is_void_v<Result>)
        current_.emplace();
      else
        current_.emplace(internal::decode<Result>(*decoder_));
    } catch (...) {
      left_ = 0;
      cancel_rest();
      throw;
    }
  }

  void begin_chunk(std::size_t index) {
    reading_ = std::move(sent_[index]);
    sent_.erase(sent_.begin() + static_cast<std::ptrdiff_t>(index));
    try {
      reading_.state->require_value();
    } catch (...) {
      cancel_rest();
      throw;
    }
    decoder_.emplace(internal::ContextId{}, *reading_.bytes->value);
    left_ = reading_.items;
    if (options_.chunk_size == 0) adapt();
  }

  // Chunks that take some milliseconds: the way to a node and back takes half of one.
  void adapt() {
    const double item =
        std::chrono::duration<double>(reading_.bytes->ran).count() / static_cast<double>(reading_.items);
    const double wanted = item > 0 ? 0.004 / item : 512;
    const auto most = static_cast<double>(std::min<std::size_t>(2 * chunk_, 4096));
    chunk_ = static_cast<std::size_t>(std::clamp(wanted, 1.0, most));
  }

  void cancel_rest() noexcept {
    exhausted_ = true;
    for (auto& sent : sent_) {
      try {
        if (sent.state) sent.bytes->cancel_pending();
      } catch (...) {  // it ends by itself
      }
    }
    sent_.clear();
  }

  std::shared_ptr<internal::ClusterCore> core_;
  F function_;
  MapOptions options_;
  std::unique_ptr<TaskOptions> item_options_;
  std::unique_ptr<TaskOptions> chunk_options_;
  std::unique_ptr<std::tuple<Ranges...>> ranges_;
  std::optional<Cursor> cursor_;
  internal::Deadline deadline_;
  std::size_t chunk_ = 1;
  std::size_t fetched_ = 0;
  std::size_t given_ = 0;
  bool exhausted_ = false;
  bool begun_ = false;
  std::deque<Sent> sent_;
  Sent reading_;
  std::optional<internal::Decoder> decoder_;
  std::size_t left_ = 0;
  std::optional<Stored> current_;
};

}  // namespace kindred
