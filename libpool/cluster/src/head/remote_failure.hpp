#pragma once

#include <memory>
#include <string>

#include "head/head.hpp"
#include "kindred/internal/future_state.hpp"

namespace kindred::internal {

/// The failure that a future of the task ends with; not for a value.
[[nodiscard]] std::unique_ptr<Failure> make_failure(const cluster::Ended& ended);
/// Does the future count as cancelled?
[[nodiscard]] bool is_cancelled(const cluster::Ended& ended) noexcept;

}  // namespace kindred::internal
