#pragma once

#include <string>

namespace kindred::internal {

/// All that a file of the kernel's says (/proc, /sys). Empty where it cannot be read.
[[nodiscard]] std::string read_small_file(const std::string& path);

}  // namespace kindred::internal
