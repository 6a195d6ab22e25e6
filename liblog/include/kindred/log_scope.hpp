#pragma once

#include <initializer_list>
#include <memory>
#include <string>

#include "kindred/key_value.hpp"

namespace kindred {

namespace internal {

struct ScopeNode;

/// The scopes of a coroutine while it is suspended: `take` them off the thread before it is, `put` them on
/// the thread that resumes it. Threads: one at a time.
class CarriedScopes {
 public:
  CarriedScopes() noexcept;
  CarriedScopes(CarriedScopes&&) noexcept;
  CarriedScopes& operator=(CarriedScopes&&) noexcept;
  ~CarriedScopes();
  void take(const void* until = nullptr);  ///< those made after `until`, an `innermost()`
  void put();
  [[nodiscard]] static const void* innermost() noexcept;  ///< names the thread's innermost scope now

 private:
  struct Nodes;
  std::unique_ptr<Nodes> nodes_;
};

}  // namespace internal

/// Puts fields on every record that this thread logs while the scope lives; scopes nest, and an inner field
/// hides an outer one of its name.
///
///     kindred::LogScope scope{{"request", request.id}, {"user", request.user}};
///
/// The fields travel once, before the first record that is logged with them, not with each. Bridged spdlog
/// calls get them too.
///
/// **Coroutines.** A scope in a coroutine goes with it over `co_await` of a kindred future: while the
/// coroutine is suspended, no record of the thread that ran it has the fields; when it goes on, on whatever
/// thread, its records have them again. Over other awaitables that is so with `co_await
/// carry_log_scopes(awaitable)`; without, the fields stay on the thread that the scope was made on until the
/// scope ends. (What goes with a coroutine is each scope that is not on the thread's stack, up to the first
/// that is. So the scope of a coroutine goes with another one that it starts and does not await; give such a
/// one a scope of its own, made outside.)
///
/// Threads: made by the thread that is to log; ends on any thread, in any order. Threads that it starts do
/// not inherit it. Fork: stays in the process that made it.
class [[nodiscard]] LogScope {
 public:
  LogScope(std::initializer_list<LogField> fields);
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;
  ~LogScope();

 private:
  std::shared_ptr<internal::ScopeNode> node_;
};

namespace internal {

template <class Awaitable>
decltype(auto) awaiter_of(Awaitable&& awaitable) {
  if constexpr (requires { static_cast<Awaitable&&>(awaitable).operator co_await(); })
    return static_cast<Awaitable&&>(awaitable).operator co_await();
  else if constexpr (requires { operator co_await(static_cast<Awaitable&&>(awaitable)); })
    return operator co_await(static_cast<Awaitable&&>(awaitable));
  else
    return static_cast<Awaitable&&>(awaitable);
}

template <class Awaiter>
struct ScopeCarrier {
  Awaiter awaiter;
  CarriedScopes scopes{};
  bool await_ready() { return awaiter.await_ready(); }
  template <class Handle>
  auto await_suspend(Handle coroutine) {
    // First: as soon as the awaiter knows the coroutine, another thread may resume it.
    scopes.take();
    return awaiter.await_suspend(coroutine);
  }
  decltype(auto) await_resume() {
    scopes.put();
    return awaiter.await_resume();
  }
};

}  // namespace internal

/// Awaits anything, and carries the fields of the coroutine's `LogScope`s over it:
/// `co_await carry_log_scopes(socket.read())`. Kindred's futures need no such help.
template <class Awaitable>
[[nodiscard]] auto carry_log_scopes(Awaitable&& awaitable) {
  using Awaiter = decltype(internal::awaiter_of(static_cast<Awaitable&&>(awaitable)));
  return internal::ScopeCarrier<Awaiter>{internal::awaiter_of(static_cast<Awaitable&&>(awaitable))};
}

}  // namespace kindred
