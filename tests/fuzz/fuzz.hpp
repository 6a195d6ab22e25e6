#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

// A fuzz target is a function that takes any bytes and must come back: no crash, no hang, nothing read out of
// bounds. Each is built twice: into `fuzzer` (clang, libFuzzer, sanitizers; tests/run --long) and into
// `replay_corpus`, which gives it the kept corpus in each ordinary run.
namespace kindred::fuzz {

using Input = std::span<const std::byte>;
using Seed = std::function<void(std::string_view name, Input bytes)>;

struct Target {
  const char* name;
  void (*run)(Input);
  void (*seeds)(const Seed&);  ///< what the corpus begins with: inputs that are right
  Target* next;
};
inline Target* first_target = nullptr;
struct Register {
  explicit Register(Target& target) {
    target.next = first_target;
    first_target = &target;
  }
};

/// Takes values off the front of an input; zeros when it is used up.
class Bytes {
 public:
  explicit Bytes(Input input) : left_{input} {}
  template <class T>
  T value() {
    T result{};
    auto* to = reinterpret_cast<std::byte*>(&result);
    for (std::size_t i = 0; i < sizeof result && !left_.empty(); ++i) {
      to[i] = left_.front();
      left_ = left_.subspan(1);
    }
    return result;
  }
  Input take(std::size_t bytes) {
    const auto part = left_.first(bytes < left_.size() ? bytes : left_.size());
    left_ = left_.subspan(part.size());
    return part;
  }
  Input rest() { return take(left_.size()); }
  [[nodiscard]] bool empty() const { return left_.empty(); }

 private:
  Input left_;
};
inline std::string_view text_of(Input bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Input bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }

}  // namespace kindred::fuzz

#define KINDRED_FUZZ_TARGET(target)                                                               \
  static void run_##target(::kindred::fuzz::Input input);                                         \
  static void seeds_##target(const ::kindred::fuzz::Seed& seed);                                  \
  static ::kindred::fuzz::Target target_##target{#target, run_##target, seeds_##target, nullptr}; \
  static const ::kindred::fuzz::Register register_##target{target_##target};                      \
  static void run_##target(::kindred::fuzz::Input input)
#define KINDRED_FUZZ_SEEDS(target) \
  static void seeds_##target([[maybe_unused]] const ::kindred::fuzz::Seed& seed)
