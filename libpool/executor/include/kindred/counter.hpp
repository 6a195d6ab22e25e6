#pragma once

#include <cstdint>
#include <memory>

#include "kindred/internal/shared_object.hpp"

namespace kindred {

/// A number that the parent and the workers of one executor count together: `std::atomic<std::int64_t>`
/// across processes, sequentially consistent, lock-free. Made by `executor.make_counter(start)`. It wraps
/// like the standard's. No process holds it, so a death takes nothing: an addition is done or it is not.
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
class Counter : public internal::SharedHandle<Counter, internal::SharedKind::counter> {
 public:
  using value_type = std::int64_t;

  Counter() noexcept = default;  ///< an empty handle, to be assigned to

  [[nodiscard]] std::int64_t load() const;
  operator std::int64_t() const { return load(); }  // NOLINT(google-explicit-constructor): as the atomic's
  void store(std::int64_t value) const;
  std::int64_t exchange(std::int64_t value) const;   ///< returns what it was
  std::int64_t fetch_add(std::int64_t value) const;  ///< returns what it was
  std::int64_t fetch_sub(std::int64_t value) const;  ///< returns what it was
  /// Stores `desired` where it holds `expected`; else reads it into `expected`. Returns whether it stored.
  bool compare_exchange_strong(std::int64_t& expected, std::int64_t desired) const;

  std::int64_t operator++() const { return sum(fetch_add(1), 1); }
  std::int64_t operator++(int) const { return fetch_add(1); }
  std::int64_t operator--() const { return sum(fetch_add(-1), -1); }
  std::int64_t operator--(int) const { return fetch_add(-1); }
  std::int64_t operator+=(std::int64_t value) const { return sum(fetch_add(value), value); }
  std::int64_t operator-=(std::int64_t value) const;

 private:
  friend class internal::SharedHandle<Counter, internal::SharedKind::counter>;
  friend class internal::SharedObjectRegistry;
  static std::int64_t sum(std::int64_t left, std::int64_t right) noexcept {  // wraps, as the atomic does
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(left) + static_cast<std::uint64_t>(right));
  }
  explicit Counter(std::shared_ptr<internal::SharedObject> object) noexcept
      : SharedHandle{std::move(object)} {}
};

}  // namespace kindred
