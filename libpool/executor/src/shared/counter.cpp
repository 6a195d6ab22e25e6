#include "kindred/counter.hpp"

#include "shared/shared_object.hpp"

namespace kindred {

using namespace internal;

namespace {
std::atomic<std::int64_t>& value_of(SharedObject& object) noexcept { return object.memory().value; }
}  // namespace

std::int64_t Counter::load() const { return value_of(use()).load(); }
void Counter::store(std::int64_t value) const { value_of(use()).store(value); }
std::int64_t Counter::exchange(std::int64_t value) const { return value_of(use()).exchange(value); }
// Crash: one instruction, done or not done.
std::int64_t Counter::fetch_add(std::int64_t value) const { return value_of(use()).fetch_add(value); }
std::int64_t Counter::fetch_sub(std::int64_t value) const { return value_of(use()).fetch_sub(value); }
bool Counter::compare_exchange_strong(std::int64_t& expected, std::int64_t desired) const {
  return value_of(use()).compare_exchange_strong(expected, desired);
}
std::int64_t Counter::operator-=(std::int64_t value) const {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(fetch_sub(value)) -
                                   static_cast<std::uint64_t>(value));
}

}  // namespace kindred
