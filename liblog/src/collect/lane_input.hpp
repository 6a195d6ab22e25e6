#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "collect/history.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/log_record.hpp"
#include "record/fields.hpp"

namespace kindred::internal {

inline constexpr std::size_t longest_context_name = 4096;  ///< of a logger or a task

/// A lane's part of the watermark: see order_and_watermark.md.
struct LaneBound {
  std::uint64_t bound = 0;  ///< what is still to come from this lane is younger
  std::uint64_t seen = 0;   ///< `published` as of the last look
  bool seen_entering = false;
  std::uint64_t stuck_since = 0;  ///< when `seen` was first seen, entered (or in pieces)
};

/// A record that comes in pieces, because it is larger than its lane.
struct LargeRecord {
  bool open = false;  ///< more is to come
  std::uint8_t slot = 0;
  std::uint32_t site = 0;
  std::uint64_t total = 0;
  std::uint64_t tick = 0;
  std::vector<std::byte> bytes;

  void give_up() noexcept {
    open = false;
    bytes.clear();
  }
};

/// What the collector knows of one lane: how far it is read, which record comes next, and what its controls
/// have said.
struct LaneInput {
  explicit LaneInput(LaneReader<> its_reader) noexcept : reader{its_reader} {}

  LaneReader<> reader;
  const std::byte* room = nullptr;  ///< the lane's bytes; to be read by `reader` alone
  LaneBound watermark;

  // --- the next record ---
  bool has_head = false;
  bool head_is_large = false;  ///< it is in `large`, complete
  RecordHead head;
  std::uint64_t head_position = 0;
  std::uint64_t tick = 0;  ///< of the head, made to fit between its predecessor and now
  std::uint64_t last_tick = 0;
  LargeRecord large;

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
  const Site* latest_site = nullptr;  ///< whose level and source are in it
  static constexpr std::uint64_t no_site = ~std::uint64_t{0};
  std::uint64_t site_index = no_site;  ///< of `latest_site` in its process's dictionary
  std::uint32_t record_slot = 0;       ///< whose name is in it
  bool fields_are_base = true;         ///< it has no field beside those of its scope and slot
  /// Names the record's facts, together with its slot; 0: they have changed, and have no name yet.
  std::uint64_t facts_id = 0;
  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};
  std::uint32_t described_slot = no_slot;  ///< whose facts and kept head these are
  // What is the same in each record of these facts that is kept: its head, and the texts behind its bytes.
  KeptRecord kept{};
  std::vector<std::byte> context;

  /// Has the processor fetch what is to be read soon: the producer's processor has it in its cache. Not what
  /// is so near to the latest that the producer may be writing it.
  void fetch_ahead() const noexcept {
    constexpr std::uint64_t ahead = 512;
    if (reader.known() - reader.position() > 2 * ahead)
      __builtin_prefetch(room + ((reader.position() + ahead) & (reader.capacity() - 1)));
  }

  [[nodiscard]] bool knows_slot(std::uint32_t slot) const noexcept {
    return slot == 0 || (slot < slots.size() && slots[slot].known);
  }
  /// Are facts and what is kept of them those of the slot, and have they a name?
  [[nodiscard]] bool is_described(std::uint32_t slot) const noexcept { return described_slot == slot; }
  /// Makes them so, under that name if they have none.
  void describe(std::uint32_t slot, std::uint64_t new_facts_id);
  void forget_facts() noexcept { facts_id = 0, described_slot = no_slot; }
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
    forget_facts();
  }
  /// Puts the fields of scope and slot into the record. False where they make no sense.
  bool set_base_fields(std::uint32_t slot) {
    record.fields.clear();
    fields_are_base = true;
    if (!scope.empty() && !decode_fields(scope, record.fields)) return false;
    return slots[slot].fields.empty() || decode_fields(slots[slot].fields, record.fields);
  }

  // --- what a control says; false: it makes no sense ---
  [[nodiscard]] bool take_scope(ByteReader& control);
  [[nodiscard]] bool take_binding(ByteReader& control, std::uint32_t slot);
  /// Takes the piece of a large record in `piece`, of the kind that the head says.
  [[nodiscard]] bool take_piece(ByteReader& piece);
};

}  // namespace kindred::internal
