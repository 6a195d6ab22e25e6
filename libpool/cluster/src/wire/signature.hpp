#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "wire/archive.hpp"

namespace kindred::internal::cluster {

/// Signs messages with a secret that all heads and nodes of a cluster share: HMAC-SHA256, whose 32 bytes
/// stand behind the message. A message of one cluster has another signature than the same one of a cluster
/// of another name.
///
/// Threads: any.
class Signer {
 public:
  static constexpr std::size_t bytes = 32;
  static constexpr std::size_t least_secret_bytes = 32;

  Signer(const std::string& secret, const std::string& cluster);

  [[nodiscard]] Bytes sign(std::span<const std::byte> message) const;
  /// Is the signature right? It takes as long whatever is wrong with it.
  [[nodiscard]] bool is_signed(std::span<const std::byte> signed_message) const;
  /// Without the signature. Only of one that `is_signed`.
  static void strip(Bytes& signed_message) { signed_message.resize(signed_message.size() - bytes); }

 private:
  [[nodiscard]] std::string signature(std::span<const std::byte> message) const;
  std::string key_;
};

/// What a file of `EngineOptions::sign_key` holds, without line ends behind it. Errors: `UsageError` where it
/// cannot be read, or is shorter than 32 bytes.
[[nodiscard]] std::string read_secret(const std::string& path);

}  // namespace kindred::internal::cluster
