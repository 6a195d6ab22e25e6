#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace kindred::internal::cluster {

/// The 32 bytes of SHA-256 (FIPS 180-4).
[[nodiscard]] std::string sha256(std::span<const std::byte> bytes);

}  // namespace kindred::internal::cluster
