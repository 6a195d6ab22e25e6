#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/log_stats.hpp"
#include "kindred/sink_options.hpp"
#include "record/delivery.hpp"

namespace kindred::internal {

/// The sinks of a log. A sink that throws is reported on stderr at most once a second, and after `failures`
/// in a row is not called any more. While none was ever added, records of level warn and above go to stderr.
///
/// Threads: the collector's, but for `stats`.
class SinkSet {
 public:
  /// All sinks are flushed after a record of `flush_on` or above; `off`: none is.
  SinkSet(unsigned failures, Level flush_on) noexcept : max_failures_{failures}, flush_on_{flush_on} {}

  void add(SinkId id, std::unique_ptr<Sink> sink, SinkOptions options);
  /// Flushes and destroys it. Returns whether it was there.
  bool remove(SinkId id);
  void remove_all();
  /// From within a sink: it (or all) takes no further record; `remove` follows when no call of it runs.
  void retire(SinkId id) noexcept;
  void retire_all() noexcept;
  void write(Delivery& delivery) {
    Slot* const only = only_;
    if (only == nullptr) [[unlikely]]
      return write_to_all(delivery);
    dirty_ = true;
    try {
      only->write(delivery);
      only->failures = 0;
    } catch (const std::exception& error) {
      note_failure(*only, "to write", error.what());
    } catch (...) {
      note_failure(*only, "to write", "something that is no std::exception");
    }
  }
  /// Also tells of the repetitions that were held back for as long as they may be.
  void flush() { flush(false); }
  /// As `flush`, and tells of all that was held back.
  void flush_all() { flush(true); }
  /// Is there something to flush: written since the last flush, or a repetition that is due to be told?
  [[nodiscard]] bool dirty() const noexcept;
  /// When the first of the repetitions that are held back is due.
  [[nodiscard]] Deadline told_by() const noexcept;
  /// Messages about sinks that were taken out of service since the last call.
  [[nodiscard]] std::vector<std::string> take_notes() { return std::exchange(notes_, {}); }
  void append_stats(std::vector<LogStats::Sink>& out) const;

 private:
  struct Slot {
    SinkId id{};
    std::unique_ptr<Sink> sink;
    SinkOptions options;
    std::atomic<std::uint64_t> written{0};
    std::atomic<std::uint64_t> failed{0};
    std::atomic<bool> disabled{false};
    bool retired = false;
    unsigned failures = 0;  ///< since the last write that succeeded
    std::chrono::steady_clock::time_point reported{};

    bool plain = true;  ///< no repetitions are folded, and no record flushes
    /// It is in service, plain, and takes each record of its level.
    bool takes_all = false;
    // With `SinkOptions::fold`: the record before, and how often it came again.
    LogRecord latest;
    std::uint64_t repeated = 0;
    std::chrono::steady_clock::time_point first_at{};
    [[nodiscard]] bool folds(const LogRecord& record);
    void tell_repeated();
    void write(Delivery& delivery) {
      sink->deliver(delivery);
      written.store(written.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  };
  [[nodiscard]] static bool needs_whole(const Slot& slot) noexcept;
  [[nodiscard]] static bool accepts(const Slot& slot, Delivery& delivery);
  void look_at_slots() noexcept;
  void take_out_of_service(Slot& slot) noexcept;
  void write_to_all(Delivery& delivery);
  void write_without_sinks(Delivery& delivery);
  void write_choosy(Slot& slot, Delivery& delivery) noexcept;
  void write_special(Slot& slot, Delivery& delivery);
  void note_failure(Slot& slot, const char* doing, const char* what) noexcept;
  void flush(bool all);
  /// `call` returns whether it wrote a record: then the row of failures ends.
  template <class F>
  void guard(Slot& slot, const char* doing, F&& call) noexcept;

  unsigned max_failures_;
  Level flush_on_;
  bool ever_added_ = false;
  bool dirty_ = false;
  Level whole_from_ = Level::off;  ///< from this level up a sink asks for whole records
  std::uint64_t last_number_ = 0;  ///< of the records
  std::vector<std::string> notes_;
  Slot* only_ = nullptr;     ///< there is no other sink, and it takes each record as it comes
  mutable std::mutex lock_;  ///< the list changes, and `stats` reads it, under it
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace kindred::internal
