#pragma once

namespace kindred::internal {

/// Proof that the calling thread holds the pool's lock. Only a `PoolGuard` makes one. A function that needs
/// the lock takes it as an argument, so it cannot be called without the lock. Pass it on; never keep it.
class Locked {
  friend class PoolGuard;
  constexpr Locked() noexcept {}  // NOLINT: not defaulted, so that `{}` does not make one
};

}  // namespace kindred::internal
