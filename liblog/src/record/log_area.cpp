#include "kindred/internal/log_area.hpp"

#include <memory>

namespace kindred::internal {

LogAreaShape::LogAreaShape(const LogOptions& options) noexcept
    : lanes{options.thread_lanes + 3},  // and the task's, the shared and the raw one
      lane_bytes{options.lane_bytes},
      thread_lane_bytes{options.thread_lane_bytes},
      site_bytes{options.site_bytes},
      when_full{options.when_full} {}

LogAreaShape::LogAreaShape(const LogControl& control) noexcept
    : lanes{control.lanes},
      lane_bytes{control.lane_bytes},
      thread_lane_bytes{control.thread_lane_bytes},
      site_bytes{control.site_bytes},
      when_full{control.when_full} {}

std::size_t log_area_bytes(const LogOptions& options) noexcept { return LogAreaShape{options}.total_bytes(); }

void format_log_area(std::span<std::byte> area, const LogOptions& options) noexcept {
  const LogAreaShape shape{options};
  auto* const control = new (area.data()) LogControl{};
  control->area_bytes = shape.total_bytes();
  control->lane_bytes = shape.lane_bytes;
  control->thread_lane_bytes = shape.thread_lane_bytes;
  control->site_bytes = shape.site_bytes;
  control->lanes = shape.lanes;
  control->block_limit_ms = static_cast<std::uint32_t>(options.block_limit.count());
  control->when_full = shape.when_full;
  control->levels.store(static_cast<std::uint32_t>(options.level.value_or(Level::info)),
                        std::memory_order_relaxed);
  for (std::uint32_t lane = 0; lane < shape.lanes; ++lane)
    new (&LogAreaShape::lines(area, lane)) LaneLines<>{};
  new (area.data() + shape.named_offset()) NamedLevels{};
  control->magic = LogControl::magic_value;
}

}  // namespace kindred::internal
