#include "wire/sha256.hpp"

#include <array>
#include <cerrno>

#include <openssl/evp.h>

#include "kindred/error.hpp"

namespace kindred::internal::cluster {

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    throw SystemError{"EVP_Digest", ENOSYS, "taking the SHA-256 of a large value",
                      "This machine's OpenSSL has no SHA-256: look at its configuration."};
  return {reinterpret_cast<const char*>(digest.data()), size};
}

}  // namespace kindred::internal::cluster
