#include "collect/lane_input.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "kindred/internal/record_encoder.hpp"

namespace kindred::internal {
namespace {

/// Encoded fields as they are kept: nothing for none.
void assign_fields(std::vector<std::byte>& fields, std::span<const std::byte> bytes) {
  std::uint32_t count = 0;
  if (bytes.size() >= sizeof count) std::memcpy(&count, bytes.data(), sizeof count);
  if (count == 0)
    fields.clear();
  else
    fields.assign(bytes.begin(), bytes.end());
}

}  // namespace

void LaneInput::describe(std::uint32_t slot, std::uint64_t new_facts_id) {
  const Slot& its = slots[slot];
  if (record_slot != slot) {
    record_slot = slot;
    record.origin = origin_of_logger(its.name);
    record.logger = record.origin == Origin::log ? std::string_view{its.name} : std::string_view{};
    fields_are_base = false;
  }
  if (facts_id == 0) facts_id = new_facts_id;
  described_slot = slot;
  context.clear();
  const auto put = [this](const auto& text) {
    const auto bytes = std::as_bytes(std::span{text.data(), text.size()});
    context.insert(context.end(), bytes.begin(), bytes.end());
  };
  put(its.name);
  put(record.task_name);
  put(scope);
  put(its.fields);
  kept = kept_of(record);
  kept.scope_bytes = static_cast<std::uint32_t>(scope.size());
  kept.binding_bytes = static_cast<std::uint32_t>(its.fields.size());
  kept.logger_bytes = static_cast<std::uint16_t>(its.name.size());
  kept.task_name_bytes = static_cast<std::uint16_t>(record.task_name.size());
}

bool LaneInput::take_scope(ByteReader& control) {
  assign_fields(scope, control.rest());
  forget_fields();
  return true;
}

bool LaneInput::take_binding(ByteReader& control, std::uint32_t slot) {
  if (slot >= slots.size()) return false;
  const auto name = control.text(control.value<std::uint32_t>());
  if (!control.ok()) return false;
  slots[slot].known = true;
  slots[slot].name = name.substr(0, longest_context_name);
  assign_fields(slots[slot].fields, control.rest());
  forget_fields();
  return true;
}

bool LaneInput::take_piece(ByteReader& piece) {
  if (head.site == record_site::begin) {
    const auto total = piece.value<std::uint64_t>();
    const auto site = piece.value<std::uint32_t>();
    static_cast<void>(piece.value<std::uint32_t>());
    if (!piece.ok() || total > longest_text + (2U << 20U) || piece.left() > total) return false;
    large.open = true;
    large.total = total;
    large.site = site;
    large.slot = head.slot;
    large.tick = tick;
    large.bytes.assign(piece.rest().begin(), piece.rest().end());
  } else {
    const auto before = piece.value<std::uint64_t>();
    if (!piece.ok()) return false;
    // Where its first piece was given up, the others have no meaning (and was counted by the producer).
    if (!large.open) return true;
    if (before != large.bytes.size()) {
      large.give_up();
      return true;
    }
    const auto more = piece.bytes(std::min<std::size_t>(piece.left(), large.total - large.bytes.size()));
    large.bytes.insert(large.bytes.end(), more.begin(), more.end());
  }
  if (large.bytes.size() != large.total) return true;
  large.open = false;
  head_is_large = true;
  has_head = true;
  head = {.size = 0, .site = large.site, .ticks = large.tick, .slot = large.slot};
  tick = large.tick;
  return true;
}

}  // namespace kindred::internal
