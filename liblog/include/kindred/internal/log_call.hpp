#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kindred/internal/log_front.hpp"

namespace kindred::internal {

/// Encodes to the heap, and hands over to `write_encoded`.
template <class... S>
[[gnu::noinline, gnu::cold]] void write_slowly(const LogTarget& target, LaneState* lane, LevelCode level,
                                               const CallSite& site, const S&... stored) noexcept {
  const std::size_t bytes = (stored_bytes(stored) + ... + std::size_t{0});
  const std::unique_ptr<std::byte[]> buffer{new (std::nothrow) std::byte[bytes + 1]};
  if (buffer != nullptr) {
    [[maybe_unused]] std::byte* end = buffer.get();
    ((end = store(end, stored)), ...);
    write_encoded(target, lane, level, site, StoredTypes<S...>::view(), {buffer.get(), bytes});
  } else if (lane != nullptr) {
    lane->ring.count_dropped(1);
    lane->ring.make_stale();
  }
}

/// A call site in registers: with its shape and the types of its arguments, what it is known by.
struct SiteWords {
  std::source_location where;
  const char* format;
  [[nodiscard]] CallSite site(std::uint32_t shape) const noexcept {
    return {{format, shape & shape_longest_format}, where, false};
  }
};

/// `LogTarget` of the free calls: found in the call, not handed to it.
struct ProcessTarget {
  operator LogTarget() const noexcept {
    return {process_log.front.load(std::memory_order_acquire), nullptr};
  }  // NOLINT
};

/// Writes one record into the calling thread's lane, whatever must be done before: a lane found, the
/// collector told of a site, a task, a scope or a logger, room made. (Lanes that threads share take a lock.)
template <class Target, class... S>
[[gnu::noinline]] void write_with_care(Target calls_target, SiteWords words_of_site, std::uint32_t shape,
                                       S... stored) noexcept {
  const LogTarget target = calls_target;
  const CallSite site = words_of_site.site(shape);
  const LevelCode level = level_of(shape);
  shorten_all(stored...);
  if (target.front == nullptr) [[unlikely]]
    return write_slowly(target, nullptr, level, site, stored...);
  const LaneUse use{*target.front};
  LaneState* const lane = use.lane();
  if (lane == nullptr) [[unlikely]]
    return write_slowly({nullptr, target.binding}, nullptr, level, site, stored...);

  const std::size_t bytes =
      round_to_record(record_head_bytes + (stored_bytes(stored) + ... + std::size_t{0}));
  const SiteKey key{site.address(), words_of_site.format, StoredTypes<S...>::codes, shape};
  const auto& seen = lane->sites[LaneState::site_slot(key.address)];
  std::uint32_t id = seen.id;
  if (!seen.is(key)) [[unlikely]] {
    id = find_site(*lane, key, site, StoredTypes<S...>::view(), level);
  }
  if (bytes > lane->ring.largest() || id == record_site::inlined) [[unlikely]] {
    return write_slowly(target, lane, level, site, stored...);
  }

  const EnteredLane place = enter_lane(*lane, target.binding, bytes);
  if (place.state == EnteredLane::State::closed) [[unlikely]]
    return write_slowly({nullptr, target.binding}, nullptr, level, site, stored...);
  if (place.state == EnteredLane::State::dropped) [[unlikely]]
    return;
  std::byte* const at = place.at;
  const std::uint32_t words[2] = {static_cast<std::uint32_t>(bytes) | place.binding_slot << record_slot_shift,
                                  id};
  std::memcpy(at, words, sizeof words);
  std::memcpy(at + sizeof words, &place.now, sizeof place.now);
  [[maybe_unused]] std::byte* end = at + record_head_bytes;
  ((end = store(end, stored)), ...);
  lane->ring.commit(bytes);
  ++lane->sequence;
  wake_collector(*lane);
  if (lane->flushes) [[unlikely]]
    flush_if_wanted(*lane, level);
}

/// Writes one record where nothing is to be done before, as mostly; else `write_with_care` does. What a log
/// call costs is here: no lock, no allocation, no system call unless the collector sleeps. All calls of
/// functions are its last, so it keeps no registers for after them.
template <class Target, class... S>
[[gnu::noinline]] void write_record(Target calls_target, SiteWords site, std::uint32_t shape,
                                    S... stored) noexcept {
  const LogTarget target = calls_target;
  LaneState* const lane = thread_lane.lane;
  if (thread_lane.front != target.front) [[unlikely]]
    return write_with_care(calls_target, site, shape, stored...);
  if (!(is_copied_here(stored) && ...)) [[unlikely]]
    return write_with_care(calls_target, site, shape, stored...);
  const SiteKey key{address_of(site.where), site.format, StoredTypes<S...>::codes, shape};
  const auto& seen = lane->sites[LaneState::site_slot(key.address)];
  if (!seen.is(key)) [[unlikely]]
    return write_with_care(calls_target, site, shape, stored...);
  const std::size_t bytes =
      round_to_record(record_head_bytes + (stored_bytes(stored) + ... + std::size_t{0}));
  if (!lane->ring.is_plain(bytes) || lane->scope_announced != thread_lane.scope() ||
      lane->task_announced != lane->task_serial->load(std::memory_order_relaxed)) [[unlikely]] {
    return write_with_care(calls_target, site, shape, stored...);
  }
  std::uint32_t slot = 0;
  if (target.binding != nullptr) {
    slot = LaneState::binding_slot(*target.binding);
    if (lane->bindings[slot] != target.binding->serial) [[unlikely]]
      return write_with_care(calls_target, site, shape, stored...);
  }
  KINDRED_INJECTION_POINT("log.before_entering");
  const auto head = lane->ring.head();
  const std::uint64_t now = lane->ring.enter_plain(head);
  if (lane->closed.load(std::memory_order_relaxed) != 0) [[unlikely]] {  // Order: as in enter_lane
    lane->ring.leave_plain(head);
    return write_with_care(calls_target, site, shape, stored...);
  }
  std::byte* const at = lane->ring.place(head);
  const std::uint32_t words[2] = {static_cast<std::uint32_t>(bytes) | slot << record_slot_shift, seen.id};
  std::memcpy(at, words, sizeof words);
  [[maybe_unused]] std::byte* end = at + record_head_bytes;
  ((end = store(end, stored)), ...);
  std::memcpy(at + sizeof words, &now, sizeof now);
  lane->ring.commit_plain(head, bytes);
  ++lane->sequence;
  // As in `wake_collector`. Is the lane half full? That is looked at where room is made.
  if (lane->collector->load(std::memory_order_seq_cst) >=
      static_cast<std::uint32_t>(CollectorState::sleeping)) [[unlikely]]
    return ring_collector(*lane);
}

template <class T>
void append_field(Field*& next, const T& argument) {
  if constexpr (is_key_value<std::remove_cvref_t<T>>) {
    next->key = argument.key;
    next->value = to_field_value(argument.value);
    ++next;
  }
}
template <class T>
[[nodiscard]] auto format_argument(T& argument) noexcept {
  if constexpr (is_key_value<std::remove_cvref_t<T>>)
    return std::tuple<>{};
  else if constexpr (is_character_array<T>)
    return std::tuple<std::string_view>{as_stored(argument)};  // it may have no NUL
  else
    return std::tuple<T&>{argument};
}

template <class... Args>
[[gnu::noinline, gnu::cold]] void write_text(LogTarget target, LevelCode level, CallSite site,
                                             Args&... args) noexcept {
  constexpr std::size_t count = (std::size_t{is_key_value<std::remove_cvref_t<Args>>} + ... + 0);
  if constexpr (count == 0 && !(is_character_array<Args> || ...)) {
    write_formatted(target, level, site, fmt::make_format_args(args...), {});
  } else {
    try {
      std::array<Field, count> fields;
      [[maybe_unused]] Field* next = fields.data();
      (append_field(next, args), ...);
      auto for_the_format = std::tuple_cat(format_argument(args)...);
      std::apply(
          [&](auto&... plain) {
            write_formatted(target, level, site, fmt::make_format_args(plain...), fields);
          },
          for_the_format);
    } catch (...) {
      write_message(target, level, site,
                    "(a key-value argument of this log call threw when it was formatted)", {});
    }
  }
}

/// A log call whose level is enabled. `site` by value: its members are constants of the call, as long as
/// no code takes its address.
template <class Target, class... Args>
void write_call(Target target, LevelCode level, CallSite site, Args&... args) noexcept {
  if constexpr ((is_storable<std::remove_cv_t<Args>> && ...)) {
    if (!site.format_here) [[likely]] {
      return write_record(target, SiteWords{site.where, site.format.data()},
                          site_shape(site.format.size(), level), as_stored(args)...);
    }
  }
  write_text(target, level, site, args...);
}

}  // namespace kindred::internal
