#pragma once

namespace kindred::internal {

/// How many pools this process is inside of: 0 in a program of its own, 1 in a worker of its pool ...
[[nodiscard]] unsigned nesting_depth() noexcept;
void set_nesting_depth(unsigned depth) noexcept;

}  // namespace kindred::internal
