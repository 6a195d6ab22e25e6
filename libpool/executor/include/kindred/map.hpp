#pragma once

#include <algorithm>
#include <atomic>
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
#include "kindred/error.hpp"
#include "kindred/future.hpp"
#include "kindred/internal/chunk_entry.hpp"
#include "kindred/internal/items_left.hpp"
#include "kindred/internal/map_pace.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/map_options.hpp"
#include "kindred/outcome.hpp"
#include "kindred/progress_bar.hpp"
#include "kindred/task_error.hpp"

namespace kindred {

namespace internal {

[[nodiscard]] TaskFacts facts_of_task(FutureState& state);
[[nodiscard]] double run_seconds(
    FutureState& state) noexcept;  ///< how long a finished task ran in its worker
[[nodiscard]] std::size_t pool_workers(PoolCore& pool) noexcept;
/// How many of them have a core while the calling thread has one, too; at least 1.
[[nodiscard]] std::size_t pool_workers_beside_caller(PoolCore& pool) noexcept;
void require_open(PoolCore& pool);

/// Errors: `UsageError` that names the option, its value and its range.
void check_map_options(const MapOptions& options, bool keeps);
/// Does the error end a map whatever its policy, because no further item could be run? A pool that is broken
/// or shut down, a map that was cancelled.
[[nodiscard]] bool ends_map(const std::exception_ptr& error) noexcept;
/// How an item's call, and a chunk's, is submitted; the first is null where all options are the defaults.
[[nodiscard]] std::unique_ptr<TaskOptions> options_of_items(const MapOptions& options);
[[nodiscard]] std::unique_ptr<TaskOptions> options_of_chunks(const MapOptions& options);

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

/// Where a map's chunks run: in the workers of this process's pool. An executor with workers elsewhere brings
/// a type with the same members.
struct LocalMapHome {
  using Core = PoolCore;
  using Reference = PoolReference;
  using Submission = internal::Submission;
  /// The run time that a chunk aims at: long enough that the cost of its call does not count, short enough
  /// that no worker waits long for the last one.
  static constexpr double chunk_seconds = 0.00005;
  /// Larger chunks travel in memory of their own.
  static constexpr double chunk_bytes = 12.0 * 1024;

  [[nodiscard]] static PoolCore& pool(PoolCore& core) noexcept { return core; }
  [[nodiscard]] static std::size_t workers(PoolCore& core) noexcept { return pool_workers(core); }
  [[nodiscard]] static std::size_t workers_beside_caller(PoolCore& core) noexcept {
    return pool_workers_beside_caller(core);
  }
  [[nodiscard]] static std::unique_ptr<TaskOptions> options_of_chunks(const MapOptions& options) {
    return internal::options_of_chunks(options);
  }
  [[nodiscard]] static TaskFacts facts(FutureState& state) { return facts_of_task(state); }
  [[nodiscard]] static double seconds(FutureState& state) noexcept { return run_seconds(state); }
  [[nodiscard]] static ValueBytes bytes(FutureState& state) { return value_bytes(state); }
  [[nodiscard]] static const ItemsLeft* left(const FutureState& state) noexcept { return items_left(state); }
  [[nodiscard]] static std::exception_ptr name(const std::exception_ptr& error, std::uint64_t item) {
    return name_item(error, item);
  }
  static void cancel(FutureState& state) { (void)state.cancel(Running::leave); }
};

/// The type of a range's items as arguments of a call. Where an iterator gives a proxy instead of a reference
/// (`std::vector<bool>`), it is the value type.
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

/// Are the range's items values of one type that lie side by side in memory?
template <class Range, class Iterator = decltype(std::begin(std::declval<Range&>())),
          class Sentinel = decltype(std::end(std::declval<Range&>()))>
inline constexpr bool lies_in_a_row = false;
template <class Range, std::contiguous_iterator Iterator, std::sized_sentinel_for<Iterator> Sentinel>
inline constexpr bool lies_in_a_row<Range, Iterator, Sentinel> =
    std::is_same_v<std::remove_const_t<std::remove_reference_t<std::iter_reference_t<Iterator>>>,
                   mapped_item_t<Range>>;

template <class Range>
concept MappableRange = requires(Range& range) {
  std::begin(range);
  std::end(range);
};

/// Stands for the result of a `map` that is refused at compile time, so that the loop around it adds no
/// errors to the refusal.
struct NoRange {
  [[nodiscard]] static int* begin() noexcept { return nullptr; }
  [[nodiscard]] static int* end() noexcept { return nullptr; }
};

/// Fails to compile, with the reason and the mend, unless `F` can be called with an item of each range.
template <class F, class... Ranges>
consteval bool check_map() {
  constexpr bool ranges = (MappableRange<Ranges> && ...);
  static_assert(
      ranges,
      "kindred: map takes ranges of arguments after the function, one for each of its parameters, and then "
      "perhaps MapOptions: pass a container, or submit a single call with submit");
  if constexpr (!ranges) {
    return false;
  } else {
    using Types = TaskTypes<F, mapped_item_t<Ranges>...>;
    constexpr bool enough = Types::plan::has_enough_arguments();
    static_assert(
        enough,
        "kindred: the function takes more parameters than map was given ranges: pass one range for each "
        "parameter (kindred::Worker& does not count), or a function object that holds what is the same for all items");
    if constexpr (!enough)
      return false;
    else
      return Types::check();
  }
}

}  // namespace internal

/// What `ProcessPoolExecutor::map` and `map_outcomes` return: a lazy input range of results, or of
/// `Outcome`s. Items are fetched from the inputs and submitted while results are taken. Destroyed early, it
/// cancels what has not begun. Moves, does not copy.
///
/// Which worker runs an item is not promised, in particular not item i by worker i mod n: the next free
/// worker takes it. Data that an item needs in its worker belongs into `Worker::state`, where a task loads it
/// if it is missing; or use a pool of one worker.
///
/// Where a worker dies, one item is lost: the one that it ran. The results of the items before it are kept,
/// and those after it are run, each as a task of its own. An item that had run to its end is not run again,
/// with the exceptions that libpool/doc/map.md lists.
///
/// Errors, from the loop of a `map`: what an item threw, or how its worker ended, after the results before it
/// were given; the loop ends there and the rest is cancelled. From both loops: `TimeoutError`,
/// `BrokenProcessPool`, `UsageError` (the pool was shut down), `SystemError`.
/// Blocks: until the next result is there. Threads: one at a time. Fork: parent only.
template <class Home, bool keeps, class F, class... Ranges>
class [[nodiscard]] BasicMapRange {
  using Cursor = std::tuple<decltype(std::begin(std::declval<Ranges&>()))...>;
  using Entry = internal::ChunkEntry<keeps, F, internal::mapped_item_t<Ranges>...>;
  using Result = typename Entry::Result;
  using Plain = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;
  using Stored = std::conditional_t<keeps, Outcome<Result>, Plain>;
  static constexpr bool takes_at_once = Entry::fixed_size;
  static constexpr bool writes_at_once =
      sizeof...(Ranges) == 1 && Entry::bare_items && (internal::lies_in_a_row<Ranges> && ...);

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
    explicit Iterator(BasicMapRange* range) noexcept : range_{range} {}
    BasicMapRange* range_;
    friend class BasicMapRange;
  };

  template <class... Given>
  BasicMapRange(typename Home::Core& pool, F function, MapOptions options, Given&&... ranges)
      : pool_{pool},
        function_{std::move(function)},
        options_{std::move(options)},
        ranges_{std::make_unique<std::tuple<Ranges...>>(std::forward<Given>(ranges)...)} {
    internal::check_map_options(options_, keeps);
    require_open(pool);
    item_options_ = internal::options_of_items(options_);
    chunk_options_ = Home::options_of_chunks(options_);
    deadline_ = internal::to_deadline(options_.timeout);
    bar_ = ProgressBar::in(options_.progress);
    if (options_.item_timeout) options_.chunk_size = 1;
    pace_ = internal::MapPace{{.chunk_seconds = Home::chunk_seconds, .chunk_bytes = Home::chunk_bytes},
                              static_cast<std::size_t>(options_.chunk_size.value())};
    std::apply([&](auto&... each) { cursor_.emplace(std::begin(each)...); }, *ranges_);
    fetch();
  }
  BasicMapRange(BasicMapRange&&) noexcept = default;
  /// `std::views` need it of a range that they own: `pool.map(...) | std::views::take(3)`.
  BasicMapRange& operator=(BasicMapRange&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      std::construct_at(this, std::move(other));
    }
    return *this;
  }
  ~BasicMapRange() { cancel_rest(); }

  Iterator begin() {
    if (!begun_) {
      begun_ = true;
      advance();
    }
    return Iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  // Items that were sent in one call; or one item that could not be sent; or one that was lost with its
  // chunk.
  struct Chunk {
    internal::StateHandle state = {};  // null: `error` says how its items ended
    std::size_t items = 0;
    std::size_t first = 0;  // the place of its first item in the input
    std::exception_ptr error = {};
    [[nodiscard]] bool finished() const noexcept { return !state || state->finished(); }
  };
  // The chunk whose results are being given, one after another.
  struct Reading {
    Chunk chunk;
    std::optional<internal::Decoder> decoder = {};  // none: all its items ended with `chunk.error`
    std::size_t left = 0;
    std::size_t end = 0;  // the place in the input of the item behind those that are given
    bool failed = false;  // behind the results stands that item's error
    void begin(std::size_t results) noexcept {
      left = results;
      end = chunk.first + results;
    }
    [[nodiscard]] std::size_t next_index() const noexcept { return end - left; }
  };

  // --- taking items in and sending them

  bool at_end() {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return ((std::get<I>(*cursor_) == std::end(std::get<I>(*ranges_))) || ...);
    }(std::index_sequence_for<Ranges...>{});
  }

  [[nodiscard]] std::size_t buffer() const noexcept {
    if (options_.buffer_size.value() > 0) return static_cast<std::size_t>(options_.buffer_size.value());
    return pace_.window(Home::workers(*pool_), Home::workers_beside_caller(*pool_));
  }

  // Items that were fetched and whose results were not taken yet stay within the buffer.
  void fetch() {
    while (!exhausted_ && fetched_ - taken_ < buffer()) {
      const std::size_t room = buffer() - (fetched_ - taken_);
      if (options_.buffer_size == 0 && room < pace_.chunk() && !chunks_.empty()) return;
      submit_chunk(std::min(pace_.chunk(), room));
    }
  }

  void submit_chunk(std::size_t most) {
    if (at_end()) {
      exhausted_ = true;
      return;
    }
    const std::size_t first = fetched_;
    std::exception_ptr unwritten;
    bool fetching = true;  // false: the item was fetched, and is being written
    typename Home::Submission submission{*pool_};
    internal::Encoder& encoder = submission.encoder();
    std::uint64_t count = 0;
    std::size_t written = 0;
    const std::size_t head = begin_call(encoder);
    try {
      // Reserves what the last chunk took, instead of growing to that again.
      encoder.reserve(std::min<std::size_t>(most * pace_.item_bytes(), std::size_t{1} << 20U));
      written = encoder.size();
      if constexpr (writes_at_once) {
        fetching = false;
        count = write_at_once(encoder, most);
      }
      while (count < most && !at_end()) {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
          Entry::encode_item(encoder, fetching, internal::mapped_item_t<Ranges>(*std::get<I>(*cursor_))...);
          (++std::get<I>(*cursor_), ...);
        }(std::index_sequence_for<Ranges...>{});
        ++count;
        written = encoder.size();
        fetching = true;
      }
    } catch (const UsageError&) {
      throw;
    } catch (const SystemError&) {
      throw;
    } catch (...) {
      unwritten = std::current_exception();
      encoder.truncate(written);
    }
    fetched_ += static_cast<std::size_t>(count);
    encoder.patch(head, &count, sizeof count);
    if (count != 0) {
      pace_.note_sent(static_cast<std::size_t>(count), encoder.size() - head);
      const TaskOptions* const options = count == 1 ? item_options_.get() : chunk_options_.get();
      chunks_.push_back(
          {.state = submit(submission, options), .items = static_cast<std::size_t>(count), .first = first});
    }
    if (unwritten) item_unwritten(unwritten, fetching);
  }

  // Copies numbers that lie in a row into their chunk together, which costs less than to write each of them.
  // Returns how many.
  std::size_t write_at_once(internal::Encoder& encoder, std::size_t most) {
    auto& at = std::get<0>(*cursor_);
    const auto count = std::min(most, static_cast<std::size_t>(std::end(std::get<0>(*ranges_)) - at));
    encoder.write(std::to_address(at), count * sizeof *at);
    at += static_cast<std::ptrdiff_t>(count);
    return count;
  }

  // An input that throws gives no further items. One item that cannot be written is an item that failed.
  void item_unwritten(const std::exception_ptr& error, bool input_failed) {
    const std::size_t index = fetched_++;
    typename Home::Submission submission{
        *pool_};  // its task fails at once, and the error is that of the task
    try {
      std::rethrow_exception(error);
    } catch (...) {
      submission.arguments_failed();
    }
    const auto state = submit(submission, nullptr);
    auto facts = Home::facts(*state.get());
    facts.item = index;
    chunks_.push_back({.state = {},
                       .items = 1,
                       .first = index,
                       .error = internal::make_task_error(error, TaskPhase::writing_arguments, facts,
                                                          Home::bytes(*state.get()).context)});
    if (!keeps || input_failed) {
      exhausted_ = true;
      return;
    }
    std::apply([](auto&... each) { (++each, ...); }, *cursor_);
  }

  // The function, where it has a state, and room for the count of the items that follow.
  std::size_t begin_call(internal::Encoder& encoder) {
    if constexpr (Entry::Types::function != internal::FunctionKind::pointer)
      internal::encode_function<F>(encoder, function_);
    const std::size_t head = encoder.size();
    encoder.write_value(std::uint64_t{1});
    return head;
  }

  internal::StateHandle submit(typename Home::Submission& submission, const TaskOptions* options) {
    return submission.submit(internal::chunk_entry_info<keeps, F, internal::mapped_item_t<Ranges>...>,
                             internal::function_address(function_), options);
  }

  // --- waiting for results

  // The chunk whose results are given next: the first, or (unordered) any that is finished.
  std::size_t wait_for_chunk() {
    if (options_.ordered || chunks_.size() == 1) {
      if (chunks_.front().state && !chunks_.front().state->wait(deadline_)) throw_timeout();
      return 0;
    }
    for (;;) {
      std::vector<internal::FutureState*> states;
      for (std::size_t i = 0; i < chunks_.size(); ++i) {
        if (chunks_[i].finished()) return i;
        states.push_back(chunks_[i].state.get());
      }
      internal::wait_for_states(states, ReturnWhen::first_completed, deadline_);
      if (std::ranges::none_of(states, [](const auto* state) { return state->finished(); })) throw_timeout();
    }
  }

  [[noreturn]] void throw_timeout() {
    cancel_rest();
    throw TimeoutError{
        "the map's timeout of " + std::to_string(std::chrono::duration<double>(*options_.timeout).count()) +
        " s passed after " + std::to_string(given_) +
        " results. What had not begun was cancelled: raise MapOptions::timeout, or give it fewer items."};
  }

  // --- giving results

  // Small enough that a loop over results has it inlined.
  void advance() {
    if (at_ != nullptr && ++at_ != batch_end_) return;
    leave_result();
  }

  void leave_result() {
    at_ = nullptr;
    if (current_) {
      if constexpr (keeps) failed_ += current_->has_value() ? 0 : 1;
      current_.reset();
      ++given_;
      ++taken_;
      if (options_.progress) report();
      if (options_.buffer_size.value() > 0) fetch();  // one more for each that is taken
    }
    while (!current_) {
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
      if constexpr (keeps)
        read_outcome();
      else
        read_result();
    }
  }

  void report() {
    if (bar_)
      bar_->update(given_, failed_, Home::pool(*pool_));
    else
      options_.progress(given_, fetched_);
  }

  void begin_chunk(std::size_t place) {
    reading_ = std::make_unique<Reading>(Reading{.chunk = std::move(chunks_[place])});
    chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(place));
    Chunk& chunk = reading_->chunk;
    if (chunk.state && chunk.state->outcome() != internal::Outcome::value) {
      if (chunk.items > 1 && Home::left(*chunk.state.get()) != nullptr) return recover(place);
      chunk.error = chunk.state->exception();
      if (chunk.items == 1) chunk.error = Home::name(chunk.error, chunk.first);
    }
    if (chunk.error) return begin_failed_chunk();
    try {
      const internal::ValueBytes value = Home::bytes(*chunk.state.get());
      auto& decoder = reading_->decoder.emplace(value.context, value.bytes, value.attachments);
      const auto count = decoder.template read_value<std::uint64_t>();
      reading_->failed = decoder.template read_value<std::uint8_t>() != 0;
      if (count > chunk.items) throw internal::DecodeError{"a chunk has more results than items"};
      reading_->begin(count);
      if (!reading_->failed) pace_.note_run(chunk.items, Home::seconds(*chunk.state.get()));
      take_at_once();
    } catch (...) {
      end_with(read_error(chunk.first));
    }
  }

  // All its items ended with one error.
  void begin_failed_chunk() {
    const Chunk& chunk = reading_->chunk;
    if (!keeps || internal::ends_map(chunk.error)) return end_with(chunk.error);
    reading_->begin(chunk.items);
  }

  void read_result() {
    const std::size_t index = reading_->next_index();
    --reading_->left;
    try {
      if constexpr (std::is_void_v<Result>)
        current_.emplace();
      else
        current_.emplace(internal::decode<Result>(*reading_->decoder));
    } catch (...) {
      end_with(read_error(index));
    }
  }

  void read_outcome() {
    const std::size_t index = reading_->next_index();
    --reading_->left;
    if (!reading_->decoder) {
      current_.emplace(Stored{index, reading_->chunk.error});
      return;
    }
    internal::Decoder& decoder = *reading_->decoder;
    try {
      const auto word = decoder.template read_value<std::uint64_t>();
      const std::size_t left = decoder.left();
      const std::size_t bytes =
          decoder.take(static_cast<std::size_t>(word / 2)).size();  // all of it is there
      decoder.rewind(left);
      current_.emplace(read_framed(decoder, index, word % 2 != 0));
      decoder.rewind(left - bytes);
    } catch (...) {  // the frame itself: what comes after it cannot be found
      reading_->chunk.error = read_error(index);
      reading_->decoder.reset();
      current_.emplace(Stored{index, reading_->chunk.error});
    }
  }

  Stored read_framed(internal::Decoder& decoder, std::size_t index, bool failed) {
    if (failed) return Stored{index, internal::decode_exception(decoder, facts_of(index))};
    try {
      if constexpr (std::is_void_v<Result>)
        return Stored{index, std::monostate{}};
      else
        return Stored{index, internal::decode<Result>(decoder)};
    } catch (...) {
      return Stored{index, read_error(index)};
    }
  }

  // Numbers are copied out of their chunk together, unless progress is told for each item: one by one they
  // would cost three times as much.
  void take_at_once() {
    if constexpr (takes_at_once) {
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

  // Its results were given. Behind them stands the error that ended the chunk early.
  void end_chunk() {
    if (reading_->failed) end_with(internal::decode_exception(*reading_->decoder, facts_of(reading_->end)));
    reading_.reset();
  }

  // The map ends with `error`, once the results before it were given.
  void end_with(const std::exception_ptr& error) {
    reading_->left = 0;
    reading_->failed = false;
    exhausted_ = true;
    failure_ = error;
  }

  internal::TaskFacts facts_of(std::size_t item) {
    auto facts = Home::facts(*reading_->chunk.state.get());
    facts.item = item;
    return facts;
  }

  // In a handler: the result of the item cannot be read.
  std::exception_ptr read_error(std::size_t item) {
    try {
      throw;
    } catch (const internal::DecodeError&) {
      return internal::make_task_error(std::current_exception(), TaskPhase::reading_result, facts_of(item),
                                       Home::bytes(*reading_->chunk.state.get()).context);
    } catch (...) {
      return std::current_exception();
    }
  }

  // --- after the death of a chunk's worker

  // Gives the results that the worker had written, and replaces the chunk by what is left of it: a task for
  // each item, except for the item that the worker ran, unless that one has retries.
  void recover(std::size_t place) {
    Chunk& chunk = reading_->chunk;
    const internal::ItemsLeft& left = *Home::left(*chunk.state.get());
    const internal::ValueBytes call = Home::bytes(*chunk.state.get());
    const std::size_t running = left.known && left.done < chunk.items ? left.done : chunk.items;
    const std::size_t kept =
        left.results.size() < internal::chunk_head_bytes ? 0 : std::min<std::size_t>(left.kept, running);

    std::deque<Chunk> next;
    internal::Decoder items{call.context, call.bytes, call.attachments};
    std::size_t item = 0;
    try {
      if constexpr (Entry::Types::function == internal::FunctionKind::object)
        (void)internal::decode_function<F>(items);
      (void)items.template read_value<std::uint64_t>();
      for (; item < chunk.items; ++item) {
        const std::size_t index = chunk.first + item;
        if (item < kept) {
          Entry::skip_item(items);
        } else if (item == running && options_.retries == 0) {
          next.push_back({.items = 1, .first = index, .error = Home::name(chunk.state->exception(), index)});
          if (!keeps) {
            exhausted_ = true;
            break;
          }
          Entry::skip_item(items);
        } else {
          next.push_back({.state = run_again(items, call, item == running), .items = 1, .first = index});
        }
      }
    } catch (const UsageError&) {
      throw;
    } catch (const SystemError&) {
      throw;
    } catch (...) {  // an item cannot be read here: where the next one begins is not known
      next.push_back({.items = chunk.items - item,
                      .first = chunk.first + item,
                      .error = read_error(chunk.first + item)});
    }
    chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(place),
                   std::make_move_iterator(next.begin()), std::make_move_iterator(next.end()));

    chunk.items = kept;
    reading_->begin(kept);
    if (kept == 0) return;
    reading_->decoder.emplace(call.context, std::span<const std::byte>{left.results});
    (void)reading_->decoder->take(internal::chunk_head_bytes);
    try {
      take_at_once();
    } catch (...) {
      end_with(read_error(chunk.first));
    }
  }

  // `ran`: it was running when its worker died, which is one of its attempts.
  internal::StateHandle run_again(internal::Decoder& items, const internal::ValueBytes& call, bool ran) {
    typename Home::Submission submission{*pool_};
    internal::Encoder& encoder = submission.encoder();
    (void)begin_call(encoder);
    if (call.attachments != nullptr && !call.attachments->empty()) {
      Entry::copy_item(items, encoder);
    } else {
      const auto before = call.bytes.last(items.left());
      Entry::skip_item(items);
      const auto bytes = before.first(before.size() - items.left());
      encoder.write(bytes.data(), bytes.size());
    }
    if (!ran) return submit(submission, item_options_.get());
    MapOptions once_less = options_;
    --once_less.retries;
    const auto options = internal::options_of_items(once_less);
    return submit(submission, options.get());
  }

  void cancel_rest() noexcept {
    exhausted_ = true;
    for (auto& chunk : chunks_) {
      try {
        if (chunk.state) Home::cancel(*chunk.state.get());
      } catch (const UsageError&) {  // in the child of a fork: all of it is the parent's
      }
    }
    chunks_.clear();
  }

  typename Home::Reference pool_;
  F function_;
  MapOptions options_;
  std::unique_ptr<TaskOptions> item_options_;
  std::unique_ptr<TaskOptions> chunk_options_;
  std::unique_ptr<std::tuple<Ranges...>>
      ranges_;  // apart, so that the cursors stay valid when the range is moved
  std::optional<Cursor> cursor_;
  internal::Deadline deadline_;
  internal::MapPace pace_{{}, 1};
  std::deque<Chunk> chunks_;
  std::unique_ptr<Reading> reading_;
  std::optional<Stored> current_;
  std::vector<std::conditional_t<takes_at_once, Stored, char>> batch_;
  Stored* at_ = nullptr;  // in the batch; null: the result is `current_`
  Stored* batch_end_ = nullptr;
  std::exception_ptr failure_;
  std::size_t fetched_ = 0;
  std::size_t taken_ = 0;
  std::size_t given_ = 0;
  std::size_t failed_ = 0;
  std::optional<ProgressBar> bar_;  // what `options_.progress` is, where it is one
  bool exhausted_ = false;
  bool begun_ = false;
};

template <class F, class... Ranges>
using MapRange = BasicMapRange<internal::LocalMapHome, false, F, Ranges...>;
template <class F, class... Ranges>
using OutcomeRange = BasicMapRange<internal::LocalMapHome, true, F, Ranges...>;

}  // namespace kindred
