#pragma once

#include <sstream>
#include <string>
#include <type_traits>

/// `KINDRED_ASSERT(a == b)`: an invariant of kindred's own code, which holds whatever a user, a worker or the
/// system does. Where it does not hold, the process prints the place, the expression and the values of its
/// two operands, and aborts. What a worker wrote or what a caller passed is checked by ordinary code, never
/// by this.
///
/// On in the presets dev, clang, asan and tsan; in a release build the expression is compiled, but not
/// evaluated.
#if defined(KINDRED_INJECTION) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KINDRED_ASSERTIONS 1
#else
#define KINDRED_ASSERTIONS 0
#endif

#if KINDRED_ASSERTIONS
#define KINDRED_ASSERT(...)                                              \
  ::kindred::internal::check_assertion(__FILE__, __LINE__, #__VA_ARGS__, \
                                       ::kindred::internal::AssertedLeft{} <=> __VA_ARGS__)
#else
#define KINDRED_ASSERT(...) static_cast<void>(sizeof(static_cast<bool>(__VA_ARGS__)))
#endif

namespace kindred::internal {

/// Prints "FILE:LINE: assertion failed: EXPRESSION (OPERANDS)" and aborts.
[[noreturn]] void assertion_failed(const char* file, int line, const char* expression,
                                   const std::string& operands) noexcept;

template <class T>
void print_operand(std::ostream& out, const T& value) {
  if constexpr (std::is_enum_v<T>) {
    out << static_cast<long long>(value);
  } else if constexpr (requires { out << value; }) {
    out << value;
  } else {
    out << "(not printable)";
  }
}

template <class T>
struct AssertedValue {
  const T& value;
  [[nodiscard]] bool holds() const { return static_cast<bool>(value); }
  [[nodiscard]] std::string operands() const {
    std::ostringstream out;
    print_operand(out, value);
    return out.str();
  }

#define KINDRED_ASSERTED_COMPARISON(op)                               \
  template <class U>                                                  \
  [[nodiscard]] auto operator op(const U& right) const {              \
    struct Compared {                                                 \
      const T& left;                                                  \
      const U& right;                                                 \
      bool result;                                                    \
      [[nodiscard]] bool holds() const noexcept { return result; }    \
      [[nodiscard]] std::string operands() const {                    \
        std::ostringstream out;                                       \
        print_operand(out, left);                                     \
        out << " " #op " ";                                           \
        print_operand(out, right);                                    \
        return out.str();                                             \
      }                                                               \
    };                                                                \
    return Compared{value, right, static_cast<bool>(value op right)}; \
  }
  KINDRED_ASSERTED_COMPARISON(==)
  KINDRED_ASSERTED_COMPARISON(!=)
  KINDRED_ASSERTED_COMPARISON(<)
  KINDRED_ASSERTED_COMPARISON(<=)
  KINDRED_ASSERTED_COMPARISON(>)
  KINDRED_ASSERTED_COMPARISON(>=)
#undef KINDRED_ASSERTED_COMPARISON
};

template <class Asserted>
void check_assertion(const char* file, int line, const char* expression, const Asserted& asserted) noexcept {
  if (!asserted.holds()) [[unlikely]]
    assertion_failed(file, line, expression, asserted.operands());
}

/// Takes the left operand: `<<` binds more tightly than a comparison, so the rest of the expression follows.
struct AssertedLeft {
  template <class T>
  [[nodiscard]] AssertedValue<T> operator<=>(const T& value) const noexcept {
    return {value};
  }
};

}  // namespace kindred::internal
