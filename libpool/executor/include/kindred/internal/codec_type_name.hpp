#pragma once

#include <string_view>

namespace kindred::internal {

/// The compiler's name of `T`, at compile time: to recognise types of libraries whose headers the codec does
/// not include. Not for people, and not the same with every compiler.
template <class T>
consteval std::string_view type_name() {
  const std::string_view function = __PRETTY_FUNCTION__;
  // clang: "... type_name() [T = X]"; gcc: "... type_name() [with T = X; std::string_view = ...]"
  const auto begin = function.find("T = ") + 4;
  const auto alias = function.rfind("; std::string_view = ");
  const auto end = alias == std::string_view::npos ? function.rfind(']') : alias;
  return function.substr(begin, end - begin);
}

/// Does the name begin with `start`? Inline namespaces of the standard library are looked through:
/// "std::list<" finds libstdc++'s own.
template <class T>
consteval bool is_in(std::string_view start) {
  constexpr auto name = type_name<T>();
  if (name.starts_with(start)) return true;
  if (!start.starts_with("std::")) return false;
  for (const std::string_view versioned :
       {"std::__cxx11::", "std::__debug::", "std::_V2::", "std::__1::", "std::__exception_ptr::"}) {
    if (name.starts_with(versioned) && name.substr(versioned.size()).starts_with(start.substr(5)))
      return true;
  }
  return false;
}

/// Is `T` the type of a lambda expression itself (not of something made with one)?
template <class T>
consteval bool is_lambda() {
  constexpr auto name = type_name<T>();
  if (name.starts_with("(lambda at ")) return name.ends_with(')');  // clang
  const auto begin = name.rfind("<lambda(");                        // gcc: main()::<lambda(int)>
  if (begin == std::string_view::npos) return false;
  int open = 0;
  for (auto at = begin; at != name.size(); ++at) {
    if (name[at] == '<') ++open;
    if (name[at] == '>' && name[at - 1] != '-' && --open == 0) return at + 1 == name.size();
  }
  return false;
}

}  // namespace kindred::internal
