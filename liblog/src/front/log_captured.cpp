#include <atomic>
#include <cstdint>

#include "front/front.hpp"
#include "kindred/internal/log_call.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/logger.hpp"

namespace kindred::internal {

void log_captured(Origin origin, std::string_view line) {
  static const Logger output{"\1stdout"};
  static const Logger errors{"\1stderr"};
  if (origin == Origin::stderr) {
    errors.log_at(Level::warn, std::source_location{}, "{}", line);
  } else {
    output.log_at(Level::info, std::source_location{}, "{}", line);
  }
}

CommitMark next_commit() noexcept {
  LogFront* const front = static_cast<LogTarget>(ProcessTarget{}).front;
  if (front == nullptr) return {};
  const LaneUse use{*front};
  if (use.lane() == nullptr || use.lane()->shared) return {};
  const auto& published = use.lane()->ring.published();
  const auto offset = reinterpret_cast<const std::byte*>(&published) - front->area().data();
  return {static_cast<std::uint32_t>(offset), published.load(std::memory_order_relaxed)};
}

bool was_committed(std::span<const std::byte> area, CommitMark mark) noexcept {
  if (mark.offset == 0 || mark.offset % sizeof(std::uint64_t) != 0 || mark.offset > area.size() ||
      area.size() - mark.offset < sizeof(std::uint64_t))
    return false;
  const auto published = reinterpret_cast<const std::atomic<std::uint64_t>*>(area.data() + mark.offset)
                             ->load(std::memory_order_acquire);
  // Bit 0: a record was being written. Pieces of a large one do not count.
  return published != mark.published && (published & 1U) == 0;
}

}  // namespace kindred::internal
