#include "wire/signature.hpp"

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "kindred/error.hpp"

namespace kindred::internal::cluster {
namespace {

std::string hmac(const std::string& key, std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), out.data(),
           &size) == nullptr ||
      size != Signer::bytes)
    throw SystemError{"HMAC", ENOSYS, "signing a message of the cluster",
                      "This machine's OpenSSL has no HMAC with SHA-256: look at its configuration."};
  return {reinterpret_cast<const char*>(out.data()), size};
}

}  // namespace

Signer::Signer(const std::string& secret, const std::string& cluster)
    : key_{hmac(secret, std::as_bytes(std::span{cluster}))} {}

std::string Signer::signature(std::span<const std::byte> message) const { return hmac(key_, message); }

Bytes Signer::sign(std::span<const std::byte> message) const {
  const std::string end = signature(message);
  Bytes out;
  out.reserve(message.size() + bytes);
  out.assign(message.begin(), message.end());
  const auto* const first = reinterpret_cast<const std::byte*>(end.data());
  out.insert(out.end(), first, first + end.size());
  return out;
}

bool Signer::is_signed(std::span<const std::byte> signed_message) const {
  if (signed_message.size() < bytes) return false;
  const auto message = signed_message.first(signed_message.size() - bytes);
  return CRYPTO_memcmp(signature(message).data(), signed_message.last(bytes).data(), bytes) == 0;
}

std::string read_secret(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  std::string secret{std::istreambuf_iterator<char>{in}, {}};
  if (!in) throw UsageError{"the file of EngineOptions::sign_key, " + path + ", cannot be read."};
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
  if (secret.size() < Signer::least_secret_bytes)
    throw UsageError{"the file of EngineOptions::sign_key, " + path + ", holds " +
                     std::to_string(secret.size()) +
                     " bytes, and a secret has 32 or more. Make one: openssl rand -hex 32 > " + path};
  return secret;
}

}  // namespace kindred::internal::cluster
