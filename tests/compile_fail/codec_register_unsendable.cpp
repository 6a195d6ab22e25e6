// expect: give it a cereal serialize
#include <stdexcept>
#include <string>

#include "kindred/task_error.hpp"

#ifdef KINDRED_COMPILES
struct MyError : std::runtime_error {
  MyError() : std::runtime_error{""} {}
  explicit MyError(int c) : std::runtime_error{"text"}, code{c} {}
  int code = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(code);
  }
};
const bool registered = kindred::register_exception<MyError>();
#else
struct MyError : std::runtime_error {
  explicit MyError(int c) : std::runtime_error{"text"}, code{c} {}
  int code;
};
const bool registered = kindred::register_exception<MyError>();
#endif
