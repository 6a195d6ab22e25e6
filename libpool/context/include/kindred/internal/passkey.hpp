#pragma once

namespace kindred::internal {

/// A key that only `T` can cut: a public member that takes a `Passkey<T>` can be called by `T` alone.
template <class T>
class Passkey {
  friend T;
  Passkey() = default;  // NOLINT: not an aggregate, so `{}` does not make one
  Passkey(const Passkey&) = default;
};

}  // namespace kindred::internal
