#pragma once

#include "kindred/internal/context_id.hpp"

namespace kindred::internal {

class Collector;
class PoolCore;

/// Returns the log of a pool, for a part that stands on a pool without workers: nobody else opens its door to
/// kindred-tail.
[[nodiscard]] Collector& log_of(PoolCore& pool) noexcept;
/// Returns the pool's number among those of this process, by which kindred-tail names it.
[[nodiscard]] ContextId id_of(PoolCore& pool) noexcept;

}  // namespace kindred::internal
