#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kindred/internal/lane.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/log_record.hpp"
#include "record/fields.hpp"

namespace kindred::internal {

/// What the collector knows of one lane: how far it is read, which record comes next, and what its controls
/// have said.
struct LaneInput {
  explicit LaneInput(LaneReader<> its_reader) noexcept : reader{its_reader} {}

  LaneReader<> reader;

  // --- the watermark's part: see order_and_watermark.md ---
  std::uint64_t bound = 0;  ///< what is still to come from this lane is younger
  std::uint64_t seen = 0;   ///< `published` as of the last look
  bool seen_entering = false;
  std::uint64_t stuck_since = 0;  ///< when `seen` was first seen, entered (or in pieces)

  // --- the next record ---
  bool has_head = false;
  bool head_is_large = false;  ///< it is in `large`, complete
  RecordHead head;
  std::uint64_t head_position = 0;
  std::uint64_t tick = 0;  ///< of the head, made to fit between its predecessor and now
  std::uint64_t last_tick = 0;

  // --- a record in pieces ---
  bool large_open = false;
  std::uint64_t large_total = 0;
  std::uint64_t large_tick = 0;
  std::uint64_t large_position = 0;  ///< where the next piece is expected
  std::uint32_t large_site = 0;
  std::uint8_t large_slot = 0;
  std::vector<std::byte> large;

  // --- what the controls said ---
  std::uint64_t next_sequence = 1;
  std::uint64_t dropped_told = 0;  ///< reported so far, in all
  struct Slot {
    bool known = false;
    std::string name;
    std::vector<std::byte> fields;  ///< encoded; empty: none
  };
  std::array<Slot, LaneState::binding_slots + 1> slots;
  std::vector<std::byte> scope;  ///< encoded; empty: none

  // --- the record as sinks see it; what does not change from one to the next stays in it ---
  LogRecord record;
  const void* record_site = nullptr;  ///< whose level and source are in it
  std::uint32_t record_slot = 0;      ///< whose name is in it
  bool fields_are_base = true;        ///< its fields are those of scope and slot, and nothing else

  void forget_attribution() {
    record.task_id = 0;
    record.attempt = 0;
    record.task_name.clear();
    scope.clear();
    for (Slot& slot : slots) slot.known = false;
    forget_fields();
  }
  void forget_fields() noexcept {
    fields_are_base = false;
    record_slot = ~std::uint32_t{0};
  }
  /// Puts the fields of scope and slot into the record. False where they make no sense.
  bool set_base_fields(std::uint32_t slot) {
    record.fields.clear();
    fields_are_base = true;
    if (!scope.empty() && !decode_fields(scope, record.fields)) return false;
    return slots[slot].fields.empty() || decode_fields(slots[slot].fields, record.fields);
  }
};

}  // namespace kindred::internal
