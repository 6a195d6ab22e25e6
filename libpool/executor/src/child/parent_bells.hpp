#pragma once

#include <cstdint>

#include "kindred/internal/segment.hpp"
#include "kindred/internal/shared_bell.hpp"

namespace kindred::internal {

/// Rings the parent's bells as the parent has armed them: see `Armed`. Each arming is rung for once.
class ParentBells {
 public:
  ParentBells(const SegmentHeader& header, const SharedBell& waiter, const SharedBell& service) noexcept
      : header_{header}, waiter_{waiter}, service_{service} {}

  /// Call when a result is published, or the worker has no call. `position`: how far the worker has read its
  /// calls. Returns whether it rang the bell of the thread that waits.
  bool ring_if_armed(std::uint64_t position) noexcept;
  /// The supervisor is to look at once.
  void ring_service() const noexcept { service_.ring(); }

 private:
  const SegmentHeader& header_;
  const SharedBell& waiter_;
  const SharedBell& service_;
  std::uint64_t last_rung_ = 0;  // epoch of the last ringing
};

}  // namespace kindred::internal
