#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "front/current_task.hpp"
#include "front/front.hpp"
#include "front/place.hpp"
#include "front/scope.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/log_call.hpp"
#include "kindred/internal/shared_memory.hpp"
#include "record/fields.hpp"
#include "record/level_table.hpp"
#include "record/site.hpp"

namespace kindred::internal {

constinit const char ThreadLane::no_front = 0;
constinit thread_local ThreadLane thread_lane{};

namespace {

constinit thread_local bool thread_is_ending = false;
constinit thread_local unsigned collectors_here = 0;
// Of this thread, where it shares a lane.
constinit thread_local std::uint64_t shared_sequence = 0;
constinit thread_local std::uint32_t shared_front = 0;

/// The lanes that the thread has, given back when it ends.
struct ThreadLanes {
  struct Held {
    LogFront* front = nullptr;
    LaneState* lane = nullptr;
  };
  std::array<Held, 4> held;

  ~ThreadLanes() {
    thread_is_ending = true;
    thread_lane.front = &ThreadLane::no_front;
    thread_lane.lane = nullptr;
    for (const Held& one : held) {
      if (one.front == nullptr || one.front->inherited()) continue;
      // What is logged from here on, by destructors of other thread_local and static objects, goes through
      // the shared lane.
      shared_front = one.front->serial();
      shared_sequence = one.lane->sequence;
      one.front->give_back_lane(*one.lane);
    }
  }
};
thread_local ThreadLanes thread_lanes;

/// One attempt to write a control. `fill` writes the payload.
enum class Put : std::uint8_t { done, again, dropped };
template <class Fill>
Put put_control(LaneState& lane, std::uint32_t site, std::uint32_t slot, std::size_t payload,
                Fill&& fill) noexcept {
  const std::size_t bytes = round_to_record(control_head_bytes + payload);
  std::byte* const at = lane.ring.reserve(bytes);
  if (at == nullptr) return wait_for_room(lane, bytes) ? Put::again : Put::dropped;
  if (lane.ring.begun_block() && site != record_site::thread)
    return Put::again;  // which has to begin with the thread
  const std::uint32_t words[2] = {static_cast<std::uint32_t>(bytes) | slot << record_slot_shift, site};
  std::memcpy(at, words, sizeof words);
  fill(at + control_head_bytes);
  lane.ring.pass(bytes);
  return Put::done;
}

Put put_thread(LaneState& lane) noexcept {
  return put_control(lane, record_site::thread, 0, 32, [&lane](std::byte* to) {
    const bool reset = lane.ring.begun_block();
    const std::uint32_t words[2] = {lane.thread, reset ? 1U : 0U};
    const std::uint64_t counts[3] = {lane.sequence + 1, lane.gap_announced, process_id()};
    std::memcpy(to, words, sizeof words);
    std::memcpy(to + sizeof words, counts, sizeof counts);
    lane.ring.clear_stale();
    if (!reset) return;
    lane.task_announced = LaneState::nothing_announced;
    lane.scope_announced = LaneState::nothing_announced;
    for (auto& binding : lane.bindings) binding = 0;
  });
}

Put put_gap(LaneState& lane) noexcept {
  constexpr std::size_t bytes = record_head_bytes + 2 * sizeof(std::uint64_t);
  std::byte* const at = lane.ring.reserve(bytes);
  if (at == nullptr) return wait_for_room(lane, bytes) ? Put::again : Put::dropped;
  if (lane.ring.begun_block()) return Put::again;
  const std::uint64_t words[3] = {lane.ring.enter(), lane.ring.dropped(), lane.sequence + 1};
  const std::uint32_t head[2] = {static_cast<std::uint32_t>(bytes), record_site::gap};
  std::memcpy(at, head, sizeof head);
  std::memcpy(at + sizeof head, words, sizeof words);
  lane.ring.commit(bytes);
  lane.gap_announced = words[1];
  return Put::done;
}

Put put_scope(LaneState& lane) noexcept {
  std::vector<std::byte> bytes;
  // Read before the fields: where another thread ends a scope meanwhile, the next record looks again.
  const std::uint64_t serial = thread_lane.scope();
  try {
    encode_fields(bytes, fields_of_scopes(), lane.ring.largest() - control_head_bytes - 64);
  } catch (const std::bad_alloc&) {
    lane.scope_announced = serial;  // the records keep the fields they had: better than none of them
    return Put::done;
  }
  const Put put = put_control(lane, record_site::scope, 0, bytes.size(),
                              [&bytes](std::byte* to) { std::memcpy(to, bytes.data(), bytes.size()); });
  if (put == Put::done) lane.scope_announced = serial;
  return put;
}

Put put_task(LaneState& lane) noexcept {
  TaskSnapshot task;
  if (!read_current_task(task)) {
    lane.task_announced = task.serial;  // odd: the next record will look again
    return Put::done;
  }
  const std::uint32_t name =
      static_cast<std::uint32_t>(std::min<std::size_t>(task.name_bytes, lane.ring.largest() - 64));
  const Put put = put_control(lane, record_site::task, 0, 24 + name, [&](std::byte* to) {
    const std::uint64_t ids[2] = {task.id, task.function};
    const std::uint32_t words[2] = {task.attempt, name};
    std::memcpy(to, ids, sizeof ids);
    std::memcpy(to + sizeof ids, words, sizeof words);
    std::memcpy(to + sizeof ids + sizeof words, task.name, name);
  });
  if (put == Put::done) lane.task_announced = task.serial;
  return put;
}

SiteFacts facts_of(const Place& place, std::string_view types, LevelCode level) noexcept {
  return {.format = place.format,
          .file = place.file,
          .function = place.function,
          .types = types,
          .level_name = custom_name(level),
          .line = place.line,
          .level = level.base()};
}

std::uint32_t find_site_at(LaneState& lane, const SiteKey& key, const SiteFacts& facts) noexcept {
  const std::uint32_t id = lane.front->find_site(key, facts);
  if (id != record_site::inlined)
    lane.sites[LaneState::site_slot(key.address)] = {key.address, key.format, key.types, key.shape, id};
  return id;
}

bool drop(LaneState& lane) noexcept {
  lane.ring.count_dropped(1);
  ++lane.sequence;
  lane.ring.make_stale();
  return false;
}

/// Copies to a reserved place, one piece after the other.
class PlaceInLane {
 public:
  explicit PlaceInLane(std::byte* at) noexcept : at_{at} {}
  template <class T>
  PlaceInLane& put(const T& value) noexcept {
    return put(std::as_bytes(std::span{&value, 1}));
  }
  PlaceInLane& put(std::span<const std::byte> bytes) noexcept {
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
    return *this;
  }
  PlaceInLane& put_head(std::size_t bytes, std::uint32_t slot, std::uint32_t site,
                        std::uint64_t now) noexcept {
    return put(static_cast<std::uint32_t>(bytes) | slot << record_slot_shift).put(site).put(now);
  }

 private:
  std::byte* at_;
};

/// What was begun cannot be ended, and is counted as dropped. The collector sees a record begun and not
/// ended, and discards it.
void leave_begun(LaneState& lane) noexcept {
  lane.ring.leave();
  lane.ring.make_stale();
}

/// Writes the pieces behind the first one, from `rest` on; `before` bytes were in that.
void put_pieces(LaneState& lane, std::span<const std::byte> rest, std::uint64_t before,
                std::uint64_t now) noexcept {
  constexpr std::size_t head = record_head_bytes + sizeof before;
  const std::size_t most = lane.ring.largest() / 8 * 8;
  while (!rest.empty()) {
    const std::size_t bytes = std::min(most, round_to_record(head + rest.size()));
    const auto piece = rest.first(std::min(bytes - head, rest.size()));
    std::byte* const at = lane.ring.reserve_unread(bytes);
    if (at == nullptr) {
      // Under the policies that do not wait too: the message is larger than the lane, so that else it could
      // never pass.
      if (wait_for_room(lane, bytes, lane.front->block_limit())) continue;
      return leave_begun(lane);
    }
    if (lane.ring.begun_block()) {
      if (put_thread(lane) == Put::done) continue;
      return leave_begun(lane);
    }
    PlaceInLane{at}.put_head(bytes, 0, record_site::more, now).put(before).put(piece);
    before += piece.size();
    rest = rest.subspan(piece.size());
    if (!rest.empty())
      lane.ring.commit_piece(bytes);
    else
      lane.ring.commit(bytes);
    wake_collector(lane);
  }
  ++lane.sequence;
}

/// Writes an encoded record whole or in pieces. False: the lane is closed.
bool put_encoded(LaneState& lane, const Binding* binding, std::uint32_t site,
                 std::span<const std::byte> payload) noexcept {
  const std::size_t whole = round_to_record(record_head_bytes + payload.size());
  const bool fits = whole <= lane.ring.largest();
  const std::size_t first = fits ? whole : lane.ring.largest() / 8 * 8;
  const EnteredLane entered = enter_lane(lane, binding, first);
  if (entered.state != EnteredLane::State::entered) return entered.state == EnteredLane::State::dropped;
  const auto [state, slot, at, now] = entered;
  PlaceInLane place{at};
  if (fits) {
    place.put_head(whole, slot, site, now).put(payload);
    lane.ring.commit(whole);
    ++lane.sequence;
    wake_collector(lane);
    return true;
  }
  // In pieces: `begin` holds the count of all bytes and the record's site; the lane stays entered until the
  // last one is there.
  const std::uint64_t total = payload.size();
  const std::uint32_t facts[2] = {site, 0};
  const std::size_t begun = first - record_head_bytes - sizeof total - sizeof facts;
  place.put_head(first, slot, record_site::begin, now).put(total).put(facts).put(payload.first(begun));
  lane.ring.commit_piece(first);
  wake_collector(lane);
  put_pieces(lane, payload.subspan(begun), begun, now);
  return true;
}

constexpr char message_only[] = {static_cast<char>(ArgType::message), 0};
constexpr char message_and_fields[] = {static_cast<char>(ArgType::message),
                                       static_cast<char>(ArgType::fields), 0};

void write_encoded_at(const LogTarget& target, LaneState* lane, LevelCode level, const Place& place,
                      std::string_view types, std::span<const std::byte> arguments) noexcept {
  try {
    const SiteFacts facts = facts_of(place, types, level);
    if (lane != nullptr) {
      // A caller may write the names of other files into the same buffer: they are known by what they say.
      const auto names = std::hash<std::string_view>{}(place.file) ^
                         (std::hash<std::string_view>{}(place.function) + place.line);
      const auto address = reinterpret_cast<std::uintptr_t>(place.address) ^ names;
      const SiteKey key{reinterpret_cast<const void*>(address), place.format_address, types.data(),
                        site_shape(place.format.size() & shape_longest_format, level)};
      const std::uint32_t id = find_site_at(*lane, key, facts);
      std::vector<std::byte> with_site;
      if (id == record_site::inlined) {
        encode_site(with_site, facts);
        with_site.insert(with_site.end(), arguments.begin(), arguments.end());
        arguments = with_site;
      }
      if (put_encoded(*lane, target.binding, id, arguments)) {
        if (lane->flushes) flush_if_wanted(*lane, level);
        return;
      }
    }
    const Site here{facts};
    TextBuffer message;
    LogRecord record;
    record.time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
    record.level = here.level();
    record.level_name = here.level_name();
    record.source = here.source();
    record.pid = process_id();
    record.tid = thread_id();
    record.fields = fields_of_scopes();
    if (target.binding != nullptr) {
      record.logger = target.binding->name;
      record.fields.insert(record.fields.end(), target.binding->fields.begin(), target.binding->fields.end());
    }
    static_cast<void>(here.format(arguments, message, record.fields));
    record.message = message.view();
    write_to_stderr(record);
  } catch (const std::exception&) {
    if (lane != nullptr) drop(*lane);
  }
}

}  // namespace

void write_encoded(const LogTarget& target, LaneState* lane, LevelCode level, const CallSite& site,
                   std::string_view types, std::span<const std::byte> arguments) noexcept {
  write_encoded_at(target, lane, level, place_of(site), types, arguments);
}

CollectorThread::CollectorThread() noexcept { ++collectors_here; }
CollectorThread::~CollectorThread() { --collectors_here; }

LaneState* find_lane(LogFront& front) noexcept {
  if ((collectors_here != 0 && !front.is_of_worker()) || !front.is_open()) return nullptr;
  if (!thread_is_ending) {
    ThreadLanes& mine = thread_lanes;
    ThreadLanes::Held* free = nullptr;
    for (auto& one : mine.held) {
      if (one.front == &front) {
        thread_lane.front = &front;
        thread_lane.lane = one.lane;
        return one.lane;
      }
      if (one.front == nullptr || one.front->inherited()) free = &one;
    }
    if (free != nullptr) {
      if (LaneState* const lane = front.take_lane(); lane != nullptr) {
        if (shared_front == front.serial())
          lane->sequence = shared_sequence;  // it had to share one until now
        *free = {&front, lane};
        thread_lane.front = &front;
        thread_lane.lane = lane;
        return lane;
      }
    }
  }
  LaneState* const lane = front.lock_shared_lane();
  if (lane == nullptr) return nullptr;
  if (shared_front != front.serial()) {
    shared_front = front.serial();
    shared_sequence = 0;
  }
  if (lane->thread != thread_id() || lane->sequence != shared_sequence) {
    lane->thread = thread_id();
    lane->sequence = shared_sequence;
    lane->ring.make_stale();
  }
  return lane;
}

void unlock_shared_lane(LaneState& lane) noexcept {
  shared_sequence = lane.sequence;
  lane.front->unlock_shared_lane(lane);
}

std::uint32_t find_site(LaneState& lane, const SiteKey& key, const CallSite& site, std::string_view types,
                        LevelCode level) noexcept {
  return find_site_at(lane, key, facts_of(place_of(site), types, level));
}

bool announce(LaneState& lane) noexcept {
  KINDRED_INJECTION_POINT("log.lane.announcing");
  for (;;) {
    Put put;
    // They are allocated already. The first call waits for all of them, no other one for any.
    if (!std::exchange(lane.pages_mapped, true) && lane.front->is_of_worker())
      map_pages_of(lane.ring.room(), true);
    if (lane.ring.is_stale())
      put = put_thread(lane);
    else if (lane.gap_announced != lane.ring.dropped())
      put = put_gap(lane);
    else if (lane.scope_announced != thread_lane.scope())
      put = put_scope(lane);
    else if (lane.task_announced != lane.task_serial->load(std::memory_order_relaxed))
      put = put_task(lane);
    else
      return true;
    if (put == Put::dropped) return false;
  }
}

bool announce_binding(LaneState& lane, const Binding& binding) noexcept {
  const std::uint32_t slot = LaneState::binding_slot(binding);
  std::vector<std::byte> fields;
  const std::size_t most = lane.ring.largest() - control_head_bytes - 64;
  const std::string_view name = std::string_view{binding.name}.substr(0, most / 2);
  try {
    encode_fields(fields, binding.fields, most - name.size());
  } catch (const std::bad_alloc&) {
    return drop(lane);
  }
  const Put put =
      put_control(lane, record_site::binding, slot, 4 + name.size() + fields.size(), [&](std::byte* to) {
        const auto size = static_cast<std::uint32_t>(name.size());
        std::memcpy(to, &size, sizeof size);
        std::memcpy(to + sizeof size, name.data(), name.size());
        std::memcpy(to + sizeof size + name.size(), fields.data(), fields.size());
      });
  if (put == Put::done) lane.bindings[slot] = binding.serial;
  return put != Put::dropped;
}

EnteredLane enter_lane(LaneState& lane, const Binding* binding, std::size_t bytes) noexcept {
  EnteredLane place;
  for (;;) {
    place.at = lane.ring.reserve(bytes);
    if (place.at == nullptr) [[unlikely]] {
      if (!wait_for_room(lane, bytes)) return place;
      continue;
    }
    if (lane.ring.is_stale() || lane.scope_announced != thread_lane.scope() ||
        lane.task_announced != lane.task_serial->load(std::memory_order_relaxed)) [[unlikely]] {
      if (!announce(lane)) return place;
      continue;
    }
    if (binding != nullptr) {
      place.binding_slot = LaneState::binding_slot(*binding);
      if (lane.bindings[place.binding_slot] != binding->serial) [[unlikely]] {
        if (!announce_binding(lane, *binding)) return place;
        continue;
      }
    }
    KINDRED_INJECTION_POINT("log.before_entering");
    place.now = lane.ring.enter();
    // Order: read after `enter`. The thread that closes the log sets `closed`, makes a heavy barrier, and
    // waits until no lane is entered: so a record is either drained with the rest or goes to stderr, and
    // never lost.
    if (lane.closed.load(std::memory_order_relaxed) == 0) [[likely]] {
      place.state = EnteredLane::State::entered;
      return place;
    }
    lane.ring.leave();
    if (lane.front->reopened(lane)) continue;
    place.state = EnteredLane::State::closed;
    return place;
  }
}

bool wait_for_room(LaneState& lane, std::size_t bytes, std::chrono::milliseconds at_least) noexcept {
  const LogFront& front = *lane.front;
  const auto limit =
      front.shape().when_full == WhenFull::block ? std::max(front.block_limit(), at_least) : at_least;
  if (limit.count() == 0) return drop(lane);
  // A lane that has waited in vain does not wait again until the collector has taken something: a sink that
  // hangs costs each lane one wait, and not one for each record.
  if (lane.gave_up && lane.gave_up_at == lane.ring.consumed()) return drop(lane);
  lane.gave_up = false;
  const auto nudge = [&lane] { lane.front->ring(); };
  nudge();
  const auto until = std::chrono::steady_clock::now() + limit;
  for (int attempt = 0; attempt < 16; ++attempt) {
    yield_cpu();
    if (lane.ring.reserve_unread(bytes) != nullptr) return true;
  }
  while (lane.ring.wait_for_consumer(until, nudge)) {
    if (lane.ring.reserve_unread(bytes) != nullptr) return true;
    if (std::chrono::steady_clock::now() >= until) break;
  }
  if (lane.ring.reserve_unread(bytes) != nullptr) return true;
  lane.gave_up = true;
  lane.gave_up_at = lane.ring.consumed();
  return drop(lane);
}

bool wait_for_room(LaneState& lane, std::size_t bytes) noexcept {
  return wait_for_room(lane, bytes, std::chrono::milliseconds{0});
}
void flush_if_wanted(LaneState& lane, LevelCode level) noexcept {
  if (level.base() >= lane.front->flush_level()) static_cast<void>(lane.front->flush_now());
}
void ring_collector(LaneState& lane) noexcept { lane.front->ring(); }

void write_message_at(const LogTarget& target, LevelCode level, const Place& place, std::string_view text,
                      std::span<const Field> fields, std::uint32_t tid) noexcept {
  try {
    text = text.substr(0, longest_text);
    const auto types =
        fields.empty() ? std::string_view{message_only, 1} : std::string_view{message_and_fields, 2};
    std::array<std::byte, 1024> few;
    std::vector<std::byte> many;
    std::span<std::byte> bytes{few.data(), std::min(few.size(), text.size() + 4)};
    if (text.size() + 4 > few.size() || !fields.empty()) {
      many.resize(text.size() + 4);
      bytes = many;
    }
    store(bytes.data(), text);
    if (!fields.empty()) {
      encode_fields(many, fields, 1024 * 1024);
      bytes = many;
    }
    if (target.front != nullptr) {
      const LaneUse use{*target.front};
      if (LaneState* const lane = use.lane(); lane != nullptr) {
        const std::uint32_t own = lane->thread;
        if (tid != 0 && tid != own) {
          lane->thread = tid;
          lane->ring.make_stale();
        }
        write_encoded_at(target, lane, level, place, types, bytes);
        if (lane->thread != own) {
          lane->thread = own;
          lane->ring.make_stale();
        }
        return;
      }
    }
    write_encoded_at({nullptr, target.binding}, nullptr, level, place, types, bytes);
  } catch (const std::exception&) {
    if (target.front == nullptr) return;
    const LaneUse use{*target.front};
    if (use.lane() != nullptr) drop(*use.lane());
  }
}

void write_message(const LogTarget& target, LevelCode level, const CallSite& site, std::string_view text,
                   std::span<const Field> fields) noexcept {
  Place place = place_of(site);
  place.format = {};
  place.format_address = nullptr;
  write_message_at(target, level, place, text, fields, 0);
}

void write_formatted(const LogTarget& target, LevelCode level, const CallSite& site,
                     fmt::format_args arguments, std::span<const Field> fields) noexcept {
  try {
    fmt::memory_buffer text;
    try {
      fmt::vformat_to(fmt::appender{text}, site.format, arguments);
    } catch (const std::exception& error) {
      text.clear();
      fmt::format_to(fmt::appender{text}, "{} (this message could not be formatted: {})", site.format,
                     error.what());
    } catch (...) {
      text.clear();
      fmt::format_to(fmt::appender{text},
                     "{} (this message could not be formatted: its argument threw something)", site.format);
    }
    write_message(target, level, site, {text.data(), text.size()}, fields);
  } catch (const std::exception&) {
    write_message(target, level, site, "(there was no memory to format this message)", fields);
  }
}

}  // namespace kindred::internal
